// Two pairs in opposite directions between two servers, and chains: what a receiver applied is not
// shipped again, unless that is asked for.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <signal.h>
#include <algorithm>

#include <chrono>
#include <map>
#include <nlohmann/json.hpp>
#include <pqxx/pqxx>
#include <stdexcept>
#include <thread>

#include "engine/throwaway_cluster.h"
#include "tests/engine/refusal.h"
#include "tests/postgres/database.h"
#include "tests/postgres/pair.h"
#include "tests/postgres/servers.h"

namespace bitacora::harness {
namespace {

constexpr std::chrono::seconds kPatience{60};
constexpr std::chrono::milliseconds kComeBackTime{700};
constexpr std::chrono::seconds kQuietWindow{3};
constexpr int kQuietIds = 2;      // on both servers together, in that time
constexpr int kLargeRows = 6000;  // several times the 64 kB of logical_decoding_work_mem

engine::ThrowawayCluster& server(int version, const std::string& role) {
  return server_of(version, role, {{"logical_decoding_work_mem", "64kB"}});
}

nlohmann::json status(const std::string& http) {
  const auto shown = Pair::bitacora({"status", "--json", "--http", http});
  // It may not be up yet.
  return nlohmann::json::parse(shown.exit_code == 0 ? shown.output
                                                    : R"({"transactions": -1, "rows": -1})");
}

std::int64_t transactions(const Pair& pair) { return status(pair.receiver_http())["transactions"]; }

// Not transactions: 14 sends those without rows, too.
std::int64_t rows(const Pair& pair) { return status(pair.receiver_http())["rows"]; }

// Transaction IDs that the server has given out.
std::int64_t ids(const std::string& conninfo) {
  return std::stoll(
      query_value(conninfo, "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint"));
}

struct Directions {
  std::vector<std::string> sender;    // arguments of both
  std::vector<std::string> receiver;  // of both
  bool copy = false;                  // of the first one
};

// The same database on two servers, each the other's master.
class TwoWays {
 public:
  TwoWays(engine::ThrowawayCluster& a, engine::ThrowawayCluster& b, const Directions& directions)
      : there_(a, b, {case_name(), directions.sender, directions.receiver, {}, directions.copy}),
        back_(b, a,
              {case_name() + "_back",
               directions.sender,
               directions.receiver,
               {},
               false,
               {},
               there_.name(),
               there_.name()}) {}

  Pair& there() { return there_; }
  Pair& back() { return back_; }
  const Pair& there() const { return there_; }

  void start() {
    there_.start();
    back_.start();
  }
  bool equal() const {
    for (const auto* table : {"public.t", "public.mine", "public.yours"}) {
      if (!there_.same_content(table)) return false;
    }
    return true;
  }
  // By content: the positions of idle servers take their time here, see expect_quiet().
  void expect_equal() {
    EXPECT_TRUE(eventually([&] { return equal(); }, kPatience)) << story();
  }
  // Nothing is applied any more.
  void expect_no_more() {
    const auto applied = [&] { return rows(there_) + rows(back_); };
    std::this_thread::sleep_for(kComeBackTime);
    const auto before = applied();
    std::this_thread::sleep_for(kComeBackTime);
    EXPECT_EQ(applied(), before) << story();
    EXPECT_TRUE(equal()) << story();
  }
  // And in a while hardly a transaction ID is used: positions that idle servers tell each other are
  // written less and less often.
  void expect_quiet() {
    expect_no_more();
    const auto used = [&] { return ids(there_.master()) + ids(there_.standby()); };
    EXPECT_TRUE(eventually(
        [&] {
          const auto used_before = used();
          std::this_thread::sleep_for(kQuietWindow);
          return used() - used_before <= kQuietIds;
        },
        kPatience))
        << story();
  }
  std::string story() const { return there_.story() + back_.story(); }

 private:
  Pair there_;
  Pair back_;
};

constexpr const char* kTables =
    "CREATE TYPE mood AS ENUM ('ok', 'bad');"
    "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE mine (id int PRIMARY KEY, m mood);"
    "CREATE TABLE yours (id int PRIMARY KEY, m mood)";

std::string large(const char* table, int from) {
  return fmt::format(
      "INSERT INTO {} SELECT {} + i, 'a rather long value ' || i FROM generate_series(1, {}) i",
      table, from, kLargeRows);
}

void skip_without(const std::vector<int>& versions) {
  for (const int version : versions) {
    if (!available_servers().contains(version)) GTEST_SKIP() << why_missing(version);
  }
}

struct Versions {
  int a;
  int b;
};
class Loops : public testing::TestWithParam<Versions> {
 protected:
  void SetUp() override { skip_without({GetParam().a, GetParam().b}); }
  // Transactions without rows, which only 14 sends.
  static int without_rows() { return std::min(GetParam().a, GetParam().b) == 14 ? 50 : 0; }
  static void expect_applied(const Pair& pair, int wanted) {
    const auto applied = transactions(pair);
    EXPECT_GE(applied, wanted);
    EXPECT_LE(applied, wanted + without_rows());
  }
  engine::ThrowawayCluster& a() { return server(GetParam().a, "a"); }
  engine::ThrowawayCluster& b() { return server(GetParam().b, "b"); }
};

TEST_P(Loops, DisjointTables) {
  TwoWays ways(a(), b(), {});
  ways.there().on_both(kTables);
  ways.start();
  for (int i = 0; i < 50; ++i) {
    ways.there().on_master(fmt::format("INSERT INTO mine VALUES ({}, 'ok')", i));
    ways.back().on_master(fmt::format("INSERT INTO yours VALUES ({}, 'bad')", i));
  }
  ways.there().on_master("UPDATE mine SET m = 'bad' WHERE id % 3 = 0");
  ways.back().on_master("DELETE FROM yours WHERE id % 3 = 0");
  ways.expect_equal();
  ways.expect_no_more();
  // Each inserted 50 rows and changed 17 of them, and applied the other's, and no more.
  EXPECT_EQ(rows(ways.there()), 67);
  EXPECT_EQ(rows(ways.back()), 67);
  // And what was described by rows that were left out is known for those that are not.
  ways.there().on_master("INSERT INTO yours VALUES (1000, 'ok')");
  ways.back().on_master("INSERT INTO mine VALUES (1000, 'ok')");
  ways.expect_equal();
  ways.expect_quiet();
}

// What is larger than the sender's master keeps in memory comes while it is in progress, and so
// does what a receiver applied of it.
TEST_P(Loops, LargeTransactions) {
  TwoWays ways(a(), b(), {});
  ways.there().on_both(kTables);
  ways.start();
  ways.there().on_master(large("t", 0));
  ways.expect_equal();
  // B's master has described t inside of what B leaves out, and does not again.
  ways.back().on_master("INSERT INTO t VALUES (-1, 'small')");
  ways.expect_equal();
  ways.back().on_master(large("t", 10'000));
  ways.expect_equal();
  ways.there().on_master("UPDATE t SET v = v || '!' WHERE id % 2 = 0");
  ways.expect_equal();
  // To the catalogue first: of such a change nobody tells the origin.
  ways.back().on_master("BEGIN; TRUNCATE t; " + large("t", 20'000) + "; COMMIT");
  ways.expect_equal();
  ways.expect_no_more();
  expect_applied(ways.there(), 2);
  expect_applied(ways.back(), 3);
  EXPECT_EQ(query_value(ways.there().standby(), "SELECT count(*) FROM t"),
            std::to_string(kLargeRows));
}

TEST_P(Loops, TheReceiverWasAway) {
  TwoWays ways(a(), b(), {});
  ways.there().on_both(kTables);
  ways.start();
  ways.there().on_master("INSERT INTO mine VALUES (1, 'ok')");
  ways.expect_equal();
  // Enough for the catch-up reader: 4 MB of WAL.
  EXPECT_EQ(ways.back().stop_receiver(), 0);
  for (int i = 0; i < 12; ++i) ways.there().on_master(large("t", i * 10'000));
  ways.expect_equal();
  ways.back().on_master("INSERT INTO yours VALUES (1, 'bad'); UPDATE mine SET m = 'bad'");
  ways.back().kill_sender();
  ways.back().start_sender();
  ways.back().start_receiver();
  ways.expect_equal();
  EXPECT_NE(ways.back().story().find("event=catching_up"), std::string::npos) << ways.story();
  expect_applied(ways.there(), 13);
  EXPECT_LE(transactions(ways.back()), 2 + without_rows());
  ways.expect_no_more();
}

TEST_P(Loops, CopiedRowsDoNotComeBack) {
  TwoWays ways(a(), b(), {{}, {}, true});
  ways.there().on_both(kTables);
  ways.there().on_master(large("t", 0) + "; INSERT INTO mine VALUES (1, 'ok')");
  // So large that the table is emptied and its copy frozen, which is one to the catalogue first.
  for (int i = 1; i < 12; ++i) ways.there().on_master(large("t", i * 10'000));
  ways.back().start_sender();
  ways.back().wait_for_slot();
  ways.there().start();
  ways.expect_equal();
  ways.back().start_receiver();
  ways.expect_no_more();
  EXPECT_EQ(rows(ways.back()), 0);
  ways.there().on_master("INSERT INTO mine VALUES (2, 'ok')");
  ways.back().on_master("INSERT INTO mine VALUES (3, 'ok')");
  ways.expect_equal();
  EXPECT_EQ(rows(ways.back()), 1);
  ways.expect_no_more();
}

// Four connections each way, and the same rows.
TEST_P(Loops, TheSameTableUnderLoad) {
  TwoWays ways(a(), b(), {{}, {"--conflict", "*=overwrite", "--workers", "4"}});
  ways.there().on_both(kTables);
  ways.start();
  const auto write = [](const std::string& conninfo, int from) {
    pqxx::connection connection(conninfo);
    for (int i = 0; i < 300; ++i) {
      pqxx::work tx(connection);
      tx.exec(fmt::format("INSERT INTO t VALUES ({}, 'new')", from + i));
      tx.exec(fmt::format("UPDATE t SET v = v || '{0}' WHERE id IN ({0}, {1})", from + i / 2,
                          from + i / 3));
      if (i % 5 == 0) tx.exec(fmt::format("DELETE FROM t WHERE id = {}", from + i / 5));
      if (i == 150) tx.exec(large("t", from + 10'000));
      tx.commit();
    }
  };
  {
    std::jthread here([&] { write(ways.there().master(), 0); });
    write(ways.back().master(), 100'000);
  }
  ways.expect_equal();
  EXPECT_LE(transactions(ways.there()), 300 + without_rows());
  EXPECT_LE(transactions(ways.back()), 300 + without_rows());
  // Each has the other's rows now, and changes them.
  ways.back().on_master("UPDATE t SET v = 'b' WHERE id < 100000 AND id % 2 = 0");
  ways.expect_equal();
  ways.there().on_master("UPDATE t SET v = 'a' WHERE id > 100000; DELETE FROM t WHERE id % 2 = 0");
  ways.expect_equal();
  ways.expect_quiet();
}

// So that the tests above can fail: what was written there comes back here.
TEST_P(Loops, AnyOriginComesBack) {
  TwoWays ways(a(), b(), {{"--origin", "any"}, {"--conflict", "*=overwrite"}});
  ways.there().on_both(kTables);
  ways.start();
  ways.there().on_master("INSERT INTO t VALUES (1, 'one')");
  EXPECT_TRUE(eventually([&] { return transactions(ways.back()) > 3; }, kPatience)) << ways.story();
}

INSTANTIATE_TEST_SUITE_P(PostgreSql, Loops,
                         testing::Values(Versions{15, 15}, Versions{18, 14}, Versions{16, 18}),
                         [](const auto& versions) {
                           return fmt::format("{}And{}", versions.param.a, versions.param.b);
                         });

// Without the right to, and without room: it goes on, and says what it means and what mends it.
class NoOrigin : public testing::TestWithParam<int> {
 protected:
  void SetUp() override { skip_without({GetParam()}); }
};

TEST_P(NoOrigin, ForARoleThatMayNot) {
  Pair pair(server(GetParam(), "a"), server(GetParam(), "b"));
  pair.on_both("CREATE TABLE t (id int PRIMARY KEY)");
  fresh_role(pair.standby(), "unmarked", "LOGIN");
  pair.on_standby(
      fmt::format("CREATE SCHEMA bitacora AUTHORIZATION unmarked; GRANT INSERT, UPDATE, DELETE, "
                  "SELECT ON t TO unmarked; GRANT TEMPORARY ON DATABASE {} TO unmarked; GRANT SET "
                  "ON PARAMETER session_replication_role TO unmarked",
                  pair.name()));
  pair.start_sender();
  pair.wait_for_slot();
  const std::string grant =
      "GRANT EXECUTE ON FUNCTION pg_catalog.pg_replication_origin_create(text), "
      "pg_catalog.pg_replication_origin_session_setup(text) TO unmarked";
  const auto receive = [&](int id) {
    Process receiver(receiver_command(
        pair, {{"--standby", pair.standby() + " user=unmarked"}, {"--workers", "3"}}));
    pair.on_master(fmt::format("INSERT INTO t VALUES ({})", id));
    pair.wait_applied(kPatience);
    EXPECT_TRUE(pair.same_content("public.t"));
    send_signal(receiver, SIGTERM);
    EXPECT_EQ(receiver.wait(kPatience), 0);
    return receiver.output() + receiver.error_output();
  };
  const auto told = receive(1);
  for (const std::string& words :
       {std::string("event=no_replication_origin"), std::string("would ship"), grant})
    EXPECT_NE(told.find(words), std::string::npos) << words << told;
  const auto first = told.find("event=no_replication_origin");
  EXPECT_EQ(told.find("event=no_replication_origin", first + 1), std::string::npos) << told;
  const auto marked = [&] {
    return query_value(pair.standby(),
                       "SELECT count(*) FROM pg_show_replication_origin_status() s WHERE "
                       "remote_lsn IS NOT NULL AND external_id LIKE 'bitacora%'");
  };
  pair.on_standby(grant);
  const auto mended = receive(2);
  EXPECT_EQ(mended.find("event=no_replication_origin"), std::string::npos) << mended;
  EXPECT_NE(marked(), "0");
}

class NoRoom : public NoOrigin {};

TEST_P(NoRoom, ForMoreOrigins) {
  engine::ClusterOptions options;
  options.bin_dir = available_servers().at(GetParam());
  options.settings = {{"max_replication_slots", "2"}, {"max_active_replication_origins", "2"}};
  if (GetParam() < 18) options.settings.erase("max_active_replication_origins");
  auto standby = engine::ThrowawayCluster::make("narrow", options);
  ASSERT_TRUE(standby.ok());
  Pair pair(server(GetParam(), "a"), *standby, {case_name(), {}, {"--workers", "4"}, {}, false});
  pair.on_both("CREATE TABLE t (id int PRIMARY KEY)");
  pair.start();
  pair.on_master("INSERT INTO t VALUES (1)");
  pair.wait_applied(kPatience);
  EXPECT_TRUE(pair.same_content("public.t"));
  const auto told = pair.story();
  EXPECT_NE(told.find("event=no_replication_origin"), std::string::npos) << told;
  EXPECT_NE(told.find(GetParam() < 18 ? "raise max_replication_slots"
                                      : "raise max_active_replication_origins"),
            std::string::npos)
      << told;
  // They stay, and are taken again: a predecessor's that is being killed is passed over.
  pair.kill_receiver();
  pair.start_receiver();
  pair.on_master("INSERT INTO t VALUES (2)");
  pair.wait_applied(kPatience);
  EXPECT_EQ(query_value(standby->conninfo(), "SELECT count(*) FROM pg_replication_origin"), "2");
}

// On 14 only a superuser takes the replica role, who may this too.
INSTANTIATE_TEST_SUITE_P(PostgreSql, NoOrigin, testing::Values(15, 18),
                         [](const auto& version) { return std::to_string(version.param); });
INSTANTIATE_TEST_SUITE_P(PostgreSql, NoRoom, testing::Values(14, 15, 18),
                         [](const auto& version) { return std::to_string(version.param); });

class Chains : public testing::TestWithParam<int> {
 protected:
  void SetUp() override { skip_without({GetParam()}); }
  engine::ThrowawayCluster& at(const std::string& role) { return server(GetParam(), role); }
};

TEST_P(Chains, WithAnyOriginEverythingGoesOn) {
  Pair first(at("a"), at("b"));
  fresh_database(at("c"), first.name());
  Pair second(
      at("b"), at("c"),
      {case_name() + "_on", {"--origin", "any"}, {}, {}, false, {}, first.name(), first.name()});
  first.on_both(kTables);
  second.on_standby(kTables);
  first.start();
  second.start();
  first.on_master("INSERT INTO mine SELECT i, 'ok' FROM generate_series(1, 100) i");
  first.on_master(large("t", 0));
  first.on_master("BEGIN; TRUNCATE t; " + large("t", 10'000) + "; COMMIT");
  first.wait_applied(kPatience);
  second.on_master("INSERT INTO yours VALUES (1, 'bad')");
  second.wait_applied(kPatience);
  for (const auto* table : {"public.t", "public.mine", "public.yours"})
    EXPECT_TRUE(second.same_content(table)) << table << second.story();
  EXPECT_EQ(query_value(second.standby(), "SELECT count(*) FROM t"), std::to_string(kLargeRows));
  // B's own tables are about B: nobody misses or takes them.
  EXPECT_EQ(second.story().find("bitacora.progress"), std::string::npos) << second.story();
  EXPECT_EQ(query_value(second.standby(), "SELECT count(*) FROM bitacora.progress"), "1");
  // Nor does C learn of B's positions as transactions. 14 sends transactions without rows, too.
  if (GetParam() > 14) {
    EXPECT_EQ(transactions(second), 4);
  }
}

// PostgreSQL's own subscription from A to B marks what it applies too.
TEST_P(Chains, BehindTheBuiltIn) {
  for (const std::string origin : {"auto", "none"}) {
    SCOPED_TRACE(origin);
    Pair pair(at("b"), at("c"), {case_name() + "_" + origin, {"--origin", origin}, {}, {}, false});
    fresh_database(at("a"), pair.name());
    const auto a = at("a").conninfo(pair.name());
    execute(a, kTables);
    pair.on_both(kTables);
    execute(a, "CREATE PUBLICATION p FOR TABLE t, mine");
    execute(
        a, fmt::format("SELECT pg_create_logical_replication_slot('{}', 'pgoutput')", pair.name()));
    pair.start();
    execute(pair.master(),
            fmt::format("CREATE SUBSCRIPTION s CONNECTION '{}' PUBLICATION p WITH (slot_name = {}, "
                        "create_slot = false, copy_data = false, streaming = on)",
                        a, pair.name()));
    execute(a, "INSERT INTO mine VALUES (1, 'ok')");
    execute(a, large("t", 0));
    EXPECT_TRUE(eventually(
        [&] {
          return query_value(pair.master(), "SELECT count(*) FROM t") == std::to_string(kLargeRows);
        },
        kPatience));
    pair.on_master("INSERT INTO yours VALUES (1, 'ok'); INSERT INTO mine VALUES (2, 'bad')");
    pair.wait_applied(kPatience);
    EXPECT_TRUE(pair.same_content("public.yours")) << pair.story();
    EXPECT_EQ(query_value(pair.standby(),
                          "SELECT (SELECT count(*) FROM t) + (SELECT count(*) FROM mine)"),
              std::to_string(origin == "none" ? 1 : kLargeRows + 2));
    execute(pair.master(), "DROP SUBSCRIPTION s");
  }
}

INSTANTIATE_TEST_SUITE_P(PostgreSql, Chains, testing::Values(14, 15, 16, 18),
                         [](const auto& version) { return std::to_string(version.param); });

}  // namespace
}  // namespace bitacora::harness
