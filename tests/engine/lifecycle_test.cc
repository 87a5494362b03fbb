// How the two processes end, and what they hold while they live.
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>

#include <atomic>
#include <pqxx/pqxx>
#include <thread>

#include "tests/engine/refusal.h"
#include "tests/postgres/database.h"

namespace bitacora::harness {
namespace {

constexpr std::chrono::seconds kEndsWithin{5};

// A peer that accepts connections and never says a word.
class SilentPeer {
 public:
  SilentPeer() : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    if (bind(socket_, generic, size) != 0 || listen(socket_, 8) != 0 ||
        getsockname(socket_, generic, &size) != 0) {
      throw std::runtime_error("no silent peer");
    }
    port_ = std::to_string(ntohs(address.sin_port));
  }
  ~SilentPeer() { close(socket_); }
  const std::string& port() const { return port_; }

 private:
  int socket_;
  std::string port_;
};

// Writes small transactions until it dies.
class Load {
 public:
  explicit Load(const std::string& conninfo)
      : writer_([conninfo](const std::stop_token& stop) {
          pqxx::connection connection(conninfo);
          while (!stop.stop_requested()) {
            pqxx::nontransaction(connection)
                .exec("INSERT INTO t (v) SELECT repeat('x', 100) FROM generate_series(1, 500)");
          }
        }) {}

 private:
  std::jthread writer_;
};

void expect_ends(Process& process, int signal) {
  SCOPED_TRACE(signal == SIGTERM ? "SIGTERM" : "SIGINT");
  process.signal(signal);
  const auto exit_code = process.wait(kEndsWithin);
  ASSERT_TRUE(exit_code.has_value()) << "still runs\n" << process.error_output();
  EXPECT_EQ(*exit_code, 0) << process.error_output();
  EXPECT_EQ(process.error_output().find("bitacora: "), std::string::npos) << process.error_output();
}

bool says(const Process& process, const std::string& words) {
  return eventually([&] { return process.error_output().find(words) != std::string::npos; });
}

class Lifecycle : public testing::Test {
 protected:
  void start() {
    pair_.on_both("CREATE TABLE t (id bigserial PRIMARY KEY, v text)");
    pair_.start();
    pair_.wait_applied();
  }
  // Not before both handle signals: a restarted pair may have nothing to catch up with.
  void expect_both_end(int signal) {
    ASSERT_TRUE(says(pair_.sender(), "event=sender_ready"));
    ASSERT_TRUE(says(pair_.receiver(), "event=receiving"));
    expect_ends(pair_.receiver(), signal);
    expect_ends(pair_.sender(), signal);
  }
  std::string slot(const std::string& column) const {
    return query_value(pair_.master(),
                       "SELECT " + column +
                           " FROM pg_replication_slots WHERE slot_name = 'bitacora_" +
                           pair_.name() + "'");
  }
  bool on_standby(const std::string& condition) const {
    return query_value(pair_.standby(), "SELECT " + condition) == "t";
  }

  Pair pair_;
};

TEST_F(Lifecycle, EndsWhenIdle) {
  start();
  for (const int signal : {SIGTERM, SIGINT}) {
    expect_both_end(signal);
    pair_.start();
    pair_.wait_applied();
  }
}

TEST_F(Lifecycle, SenderEndsBeforeItsReceiver) {
  start();
  expect_ends(pair_.sender(), SIGTERM);
  EXPECT_TRUE(says(pair_.receiver(), "event=sender_lost"));
  expect_ends(pair_.receiver(), SIGTERM);
}

TEST_F(Lifecycle, EndsUnderLoad) {
  start();
  for (const int signal : {SIGTERM, SIGINT}) {
    const Load load(pair_.master());
    const auto before = query_value(pair_.standby(), "SELECT count(*) FROM t");
    ASSERT_TRUE(eventually([&] { return on_standby("count(*) > " + before + " + 2000 FROM t"); }));
    expect_both_end(signal);
    pair_.start();
  }
  pair_.wait_applied();
  EXPECT_TRUE(pair_.same_content("public.t"));
}

TEST_F(Lifecycle, SenderEndsWhileConnectingToADeadPeer) {
  const SilentPeer peer;
  for (const int signal : {SIGTERM, SIGINT}) {
    Process sender(sender_command(pair_, {{"--master", pair_.master() + " port=" + peer.port()}}));
    ASSERT_TRUE(eventually([&] {
      return Pair::bitacora({"status", "--http", pair_.sender_http()}).exit_code == 0;
    }));
    expect_ends(sender, signal);
  }
}

TEST_F(Lifecycle, ReceiverEndsWhileConnectingToADeadPeer) {
  const SilentPeer peer;
  for (const Changes& dead :
       {Changes{{"--standby", pair_.standby() + " port=" + peer.port()}},
        Changes{{"--sender", "127.0.0.1:" + peer.port()}}, Changes{{"--sender", free_address()}}}) {
    SCOPED_TRACE(dead.begin()->second);
    Process receiver(receiver_command(pair_, dead));
    ASSERT_TRUE(eventually([&] {
      return Pair::bitacora({"status", "--http", pair_.receiver_http()}).exit_code == 0;
    }));
    expect_ends(receiver, SIGTERM);
  }
}

TEST_F(Lifecycle, EndsWhileTheStandbyIsLocked) {
  start();
  pqxx::connection connection(pair_.standby());
  for (const int signal : {SIGTERM, SIGINT}) {
    pqxx::work locker(connection);
    locker.exec("LOCK TABLE t IN ACCESS EXCLUSIVE MODE");
    pair_.on_master("INSERT INTO t (v) VALUES ('waits')");
    ASSERT_TRUE(eventually([&] {
      return on_standby(
          "count(*) = 1 FROM pg_locks WHERE NOT granted AND relation = 't'::regclass");
    }));
    expect_both_end(signal);
    locker.abort();
    pair_.start();
    pair_.wait_applied();
  }
  EXPECT_TRUE(pair_.same_content("public.t"));
}

// A stopped receiver takes nothing more in: the sender's window and queue fill up.
TEST_F(Lifecycle, SenderEndsWhileItsReceiverDoesNotRead) {
  start();
  pqxx::connection connection(pair_.master());
  pqxx::nontransaction session(connection);
  session.exec(
      "CREATE TEMP TABLE random AS SELECT string_agg(md5(random()::text), '') AS v"
      " FROM generate_series(1, 1000000) i GROUP BY i % 1000");
  pair_.receiver().signal(SIGSTOP);
  session.exec("INSERT INTO t (v) SELECT v FROM random");
  ASSERT_TRUE(eventually([&] {
    return Pair::bitacora({"status", "--http", pair_.sender_http()}).output.find("queued 0 B") ==
           std::string::npos;
  }));
  expect_ends(pair_.sender(), SIGTERM);
  pair_.receiver().signal(SIGCONT);
  pair_.start_sender();
  pair_.wait_applied();
  EXPECT_TRUE(pair_.same_content("public.t"));
}

TEST_F(Lifecycle, IdleMasterMoves) {
  start();
  const auto elsewhere = fresh_database(shared_master(), "elsewhere");
  execute(elsewhere, "CREATE TABLE noise AS SELECT generate_series(1, 10000)");
  const auto head = query_value(pair_.master(), "SELECT pg_current_wal_lsn()");
  EXPECT_TRUE(
      eventually([&] { return on_standby("applied_lsn >= '" + head + "' FROM bitacora.progress"); },
                 kEndsWithin));
  EXPECT_TRUE(eventually([&] { return slot("confirmed_flush_lsn >= '" + head + "'") == "t"; }));
}

TEST_F(Lifecycle, AbsentReceiverHoldsTheSlot) {
  start();
  EXPECT_EQ(pair_.stop_receiver(), 0);
  const auto elsewhere = fresh_database(shared_standby(), "elsewhere");
  execute(elsewhere, "CREATE TABLE t (id bigserial PRIMARY KEY, v text)");
  const Process other(
      receiver_command(pair_, {{"--standby", elsewhere},
                               {"--name", "other"},
                               {"--http", free_address()},
                               {"--data-dir", pair_.data_dir().parent_path() / "other"}}));
  pair_.on_master("INSERT INTO t (v) SELECT 'v' FROM generate_series(1, 1000)");
  ASSERT_TRUE(
      eventually([&] { return query_value(elsewhere, "SELECT count(*) FROM t") == "1000"; }));
  const auto held = slot("confirmed_flush_lsn");
  EXPECT_EQ(
      query_value(pair_.standby(), "SELECT applied_lsn >= '" + held + "' FROM bitacora.progress"),
      "t");
  execute(pair_.master(), "SELECT pg_switch_wal()");
  pair_.start_receiver();
  pair_.wait_applied();
  EXPECT_TRUE(pair_.same_content("public.t"));
}

TEST_F(Lifecycle, TwoReceiversOneStoppedForAWhile) {
  start();
  const auto elsewhere = fresh_database(shared_standby(), "elsewhere");
  execute(elsewhere, "CREATE TABLE t (id bigserial PRIMARY KEY, v text)");
  Process other(
      receiver_command(pair_, {{"--standby", elsewhere},
                               {"--name", "other"},
                               {"--http", free_address()},
                               {"--data-dir", pair_.data_dir().parent_path() / "other"}}));
  ASSERT_TRUE(says(other, "event=receiving"));
  {
    const Load load(pair_.master());
    ASSERT_TRUE(eventually([&] { return on_standby("count(*) > 2000 FROM t"); }));
    EXPECT_EQ(pair_.stop_receiver(), 0);
    const auto seen = query_value(elsewhere, "SELECT count(*) FROM t");
    ASSERT_TRUE(eventually([&] {
      return query_value(elsewhere, "SELECT count(*) > " + seen + " + 5000 FROM t") == "t";
    }));
    pair_.start_receiver();
    ASSERT_TRUE(says(pair_.receiver(), "event=receiving"));
  }
  pair_.wait_applied();
  EXPECT_TRUE(pair_.same_content("public.t"));
  const auto content = table_content(pair_.master(), "public.t");
  EXPECT_TRUE(eventually([&] { return table_content(elsewhere, "public.t") == content; }))
      << other.error_output();
}

// Its own master: the setting is the whole server's.
TEST(LifecycleSynchronous, CommitsWaitForTheReceiver) {
  auto cluster = engine::ThrowawayCluster::make("synchronous").value();
  Pair pair(cluster, shared_standby());
  pair.on_both("CREATE TABLE t (id int PRIMARY KEY)");
  pair.start();
  pair.wait_applied();
  execute(cluster.conninfo(),
          "ALTER SYSTEM SET synchronous_standby_names = 'bitacora_" + pair.name() + "'");
  execute(cluster.conninfo(), "ALTER SYSTEM SET synchronous_commit = 'remote_apply'");
  execute(cluster.conninfo(), "SELECT pg_reload_conf()");
  ASSERT_TRUE(eventually([&] {
    return query_value(cluster.conninfo(),
                       "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") == "1";
  }));
  pair.on_master("INSERT INTO t VALUES (1)");
  EXPECT_TRUE(pair.same_content("public.t")) << "the commit did not wait until it was visible";
  EXPECT_EQ(pair.stop_receiver(), 0);
  std::atomic<bool> committed = false;
  std::jthread writer([&] {
    pair.on_master("INSERT INTO t VALUES (2)");
    committed = true;
  });
  ASSERT_TRUE(eventually([&] {
    return query_value(cluster.conninfo(),
                       "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'") == "1";
  }));
  EXPECT_FALSE(committed);
  pair.start_receiver();
  EXPECT_TRUE(eventually([&] { return committed.load(); }));
  if (!committed)
    execute(cluster.conninfo(),
            "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'");
  writer.join();
  pair.wait_applied();
  EXPECT_TRUE(pair.same_content("public.t"));
}

}  // namespace
}  // namespace bitacora::harness
