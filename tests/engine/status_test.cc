// What a process says of itself, what is left when it is dropped, and what it never says.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <pqxx/pqxx>
#include <thread>

#include "base/lsn.h"

#include "tests/engine/refusal.h"
#include "tests/postgres/database.h"

namespace bitacora::harness {
namespace {

using Json = nlohmann::ordered_json;

std::vector<std::string> keys(const Json& object) {
  std::vector<std::string> names;
  for (const auto& [key, value] : object.items()) names.push_back(key);
  return names;
}

bool is_lsn(const Json& value) { return value.is_string() && parse_lsn(value.get<std::string>()); }

Json status_of(const std::string& http) {
  const auto shown = Pair::bitacora({"status", "--http", http, "--json"});
  EXPECT_EQ(shown.exit_code, 0) << shown.error_output;
  return Json::parse(shown.output);
}

class Status : public testing::Test {
 protected:
  void start() {
    pair_.on_both("CREATE TABLE t (id int PRIMARY KEY)");
    pair_.start();
    pair_.on_master("INSERT INTO t SELECT generate_series(1, 10)");
    pair_.wait_applied();
  }

  Pair pair_;
};

TEST_F(Status, OfAReceiver) {
  start();
  ASSERT_TRUE(eventually([&] { return status_of(pair_.receiver_http())["rows"] == 10; }));
  const auto status = status_of(pair_.receiver_http());
  EXPECT_EQ(keys(status),
            (std::vector<std::string>{"role", "name", "state", "received_lsn", "flushed_lsn",
                                      "applied_lsn", "lag_bytes", "lag_seconds", "spool_bytes",
                                      "transactions", "rows", "conflicts", "waiting_for",
                                      "last_error", "copy", "sequences", "sequences_age_seconds"}));
  EXPECT_EQ(status["role"], "receiver");
  EXPECT_EQ(status["name"], pair_.name());
  EXPECT_EQ(status["state"], "streaming");
  for (const char* lsn : {"received_lsn", "flushed_lsn", "applied_lsn"})
    EXPECT_TRUE(is_lsn(status[lsn])) << lsn;
  for (const char* count : {"lag_bytes", "transactions"})
    EXPECT_TRUE(status[count].is_number_unsigned()) << count;
  EXPECT_TRUE(status["lag_seconds"].is_number());
  EXPECT_GE(status["transactions"], 1);
  for (const char* later : {"spool_bytes", "conflicts"})
    EXPECT_TRUE(status[later].is_null() || status[later].is_number_unsigned()) << later;
  for (const char* nothing : {"waiting_for", "last_error"})
    EXPECT_TRUE(status[nothing].is_null()) << nothing;
}

TEST_F(Status, OfAReceiverWithoutSender) {
  pair_.start_receiver();
  ASSERT_TRUE(
      eventually([&] { return pair_.story().find("event=sender_lost") != std::string::npos; }));
  const auto status = status_of(pair_.receiver_http());
  EXPECT_EQ(status["state"], "catching_up");
  for (const char* lsn : {"received_lsn", "flushed_lsn", "applied_lsn"})
    EXPECT_TRUE(status[lsn].is_null()) << lsn;
  EXPECT_NE(status["last_error"].get<std::string>().find(pair_.sender_address()),
            std::string::npos);
}

TEST_F(Status, OfASender) {
  start();
  ASSERT_TRUE(
      eventually([&] { return !status_of(pair_.sender_http())["confirmed_lsn"].is_null(); }));
  const auto status = status_of(pair_.sender_http());
  EXPECT_EQ(keys(status), (std::vector<std::string>{"role", "stream", "slot", "reader", "wal_lsn",
                                                    "read_lsn", "confirmed_lsn", "retained_bytes",
                                                    "receivers", "dropped_receivers", "tables"}));
  EXPECT_EQ(status["role"], "sender");
  EXPECT_EQ(status["stream"], pair_.name());
  EXPECT_EQ(status["slot"], "bitacora_" + pair_.name());
  EXPECT_TRUE(status["reader"] == "live" || status["reader"] == "catch_up");
  for (const char* lsn : {"wal_lsn", "read_lsn", "confirmed_lsn"})
    EXPECT_TRUE(is_lsn(status[lsn])) << lsn;
  EXPECT_TRUE(status["retained_bytes"].is_number_unsigned());
  ASSERT_EQ(status["tables"].size(), 1u);
  EXPECT_EQ(status["tables"][0]["table"], "public.t");
  EXPECT_EQ(status["tables"][0]["rows"], 10);
  EXPECT_EQ(status["tables"][0]["bytes"], 10 * (2 + 4 + 4)) << "a count, a length, an int";
  const auto people = Pair::bitacora({"status", "--http", pair_.sender_http()}).output;
  EXPECT_NE(people.find("public.t  10 rows, 100"), std::string::npos) << people;
  ASSERT_EQ(status["receivers"].size(), 1u);
  const auto& receiver = status["receivers"][0];
  EXPECT_EQ(receiver["name"], pair_.name());
  EXPECT_EQ(receiver["connected"], true);
  for (const char* lsn : {"received_lsn", "flushed_lsn", "applied_lsn"})
    EXPECT_TRUE(is_lsn(receiver[lsn])) << lsn;
  EXPECT_EQ(pair_.stop_receiver(), 0);
  EXPECT_TRUE(eventually(
      [&] { return status_of(pair_.sender_http())["receivers"][0]["connected"] == false; }));
}

TEST_F(Status, WhoIsInTheWayOnTheStandby) {
  start();
  pqxx::connection holder(pair_.standby());
  pqxx::work lock(holder);
  lock.exec("LOCK TABLE t IN ACCESS EXCLUSIVE MODE");
  pair_.on_master("INSERT INTO t VALUES (11)");
  const auto blocker =
      "table public.t is locked by pid " + std::to_string(holder.backendpid()) + " (idle in";
  const auto waiting_for = [&] {
    const auto told = status_of(pair_.receiver_http())["waiting_for"];
    return told.is_string() ? told.get<std::string>() : std::string();
  };
  EXPECT_TRUE(eventually([&] { return waiting_for().starts_with(blocker); })) << waiting_for();
  std::this_thread::sleep_for(std::chrono::seconds(4));  // it is looked at every three
  EXPECT_EQ(pair_.said("event=standby_waits reason=\"" + blocker), 1) << pair_.story();
  EXPECT_EQ(pair_.said("event=standby_goes_on"), 0);
  lock.commit();
  pair_.wait_applied();
  EXPECT_TRUE(eventually([&] { return waiting_for().empty(); })) << waiting_for();
  EXPECT_EQ(pair_.said("event=standby_goes_on"), 1) << pair_.story();
}

TEST_F(Status, ForPeople) {
  start();
  const auto receiver = Pair::bitacora({"status", "--http", pair_.receiver_http()});
  EXPECT_EQ(receiver.exit_code, 0);
  for (const std::string& word :
       {"receiver " + pair_.name() + "\n", std::string("  state           streaming\n"),
        std::string("applied_lsn"), std::string("  last_error      -\n")}) {
    EXPECT_NE(receiver.output.find(word), std::string::npos) << receiver.output;
  }
  const auto sender = Pair::bitacora({"status", "--http", pair_.sender_http()});
  EXPECT_EQ(sender.exit_code, 0);
  EXPECT_NE(sender.output.find("sender " + pair_.name() + "\n"), std::string::npos)
      << sender.output;
  EXPECT_NE(sender.output.find("connected, received "), std::string::npos) << sender.output;
}

TEST(StatusAddress, NobodyThere) {
  const auto address = free_address();
  expect_refused(Pair::bitacora({"status", "--http", address}), 6,
                 {address, "check that the process runs", "--http"});
  expect_refused(
      Pair::bitacora({"status", "--http", "127.0.0.1:" + std::to_string(shared_master().port())}),
      6, {"/status", "--http"});
}

TEST_F(Status, Drop) {
  start();
  const std::vector<std::string> drop{"drop", "--master", pair_.master(), "--stream", pair_.name()};
  expect_refused(Pair::bitacora(drop), 4, {"bitacora_" + pair_.name(), "stop the sender"});
  EXPECT_NE(left_on_master(pair_).find("publications bitacora_"), std::string::npos);
  pair_.wait_applied();
  EXPECT_EQ(pair_.stop_receiver(), 0);
  ASSERT_TRUE(eventually([&] {
    return query_value(pair_.master(),
                       "SELECT active FROM pg_replication_slots WHERE slot_name = 'bitacora_" +
                           pair_.name() + "'") == "f";
  }));
  expect_refused(Pair::bitacora(drop), 4, {"bitacora_" + pair_.name(), "stop the sender"});
  EXPECT_EQ(pair_.stop_sender(), 0);
  const auto first = Pair::bitacora(drop);
  EXPECT_EQ(first.exit_code, 0) << first.error_output;
  EXPECT_EQ(first.output, "slot bitacora_" + pair_.name() + ": dropped\npublication bitacora_" +
                              pair_.name() + ": dropped\n");
  EXPECT_EQ(left_on_master(pair_), "");
  const auto again = Pair::bitacora(drop);
  EXPECT_EQ(again.exit_code, 0) << again.error_output;
  EXPECT_EQ(again.output, "slot bitacora_" + pair_.name() +
                              ": was not there\npublication bitacora_" + pair_.name() +
                              ": was not there\n");
}

TEST(StatusDrop, ServerAway) {
  expect_refused(
      Pair::bitacora({"drop", "--master", "host=127.0.0.1 port=1 user=postgres dbname=postgres"}),
      4, {"port 1", "check that the server runs"});
}

std::string files_below(const std::filesystem::path& directory) {
  std::string text;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory)) {
    if (!entry.is_regular_file()) continue;
    std::ifstream file(entry.path(), std::ios::binary);
    text.append(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  return text;
}

// Through every way out: the log, the last line, the status pages, what lies in the directories.
TEST_F(Status, PasswordsAreNeverShown) {
  const std::string canary = "canary7Kq'9";
  const std::string quoted = "'canary7Kq\\'9'";
  std::string seen;
  pair_.on_both("CREATE TABLE t (id int PRIMARY KEY)");
  const std::string secret = " password=" + quoted;
  Process sender(
      sender_command(pair_, {{"--master", pair_.master() + secret}, {"--verbose", "true"}}));
  pair_.wait_for_slot();
  Process receiver(
      receiver_command(pair_, {{"--standby", pair_.standby() + secret}, {"--verbose", "true"}}));
  pair_.wait_applied();
  pair_.on_standby("DROP TABLE t");
  pair_.on_master("INSERT INTO t VALUES (1)");
  ASSERT_TRUE(receiver.wait(std::chrono::seconds(20)).has_value());
  seen += Pair::bitacora({"status", "--http", pair_.sender_http(), "--json"}).output;
  send_signal(sender, SIGTERM);
  ASSERT_TRUE(sender.wait(std::chrono::seconds(20)).has_value());
  seen += sender.error_output() + receiver.error_output() + files_below(pair_.state_dir()) +
          files_below(pair_.data_dir());
  for (const std::string& wrong :
       {pair_.master() + secret + " port=1", pair_.master() + secret + " nonsense",
        pair_.master() + " password=x canary7Kq", pair_.master() + secret + " sslmode=nonsense",
        "postgresql://u:" + canary.substr(0, 9) + "@[broken/db"}) {
    seen += run(sender_command(pair_, {{"--master", wrong}})).error_output;
    seen += run(receiver_command(pair_, {{"--standby", wrong}})).error_output;
    seen += Pair::bitacora({"drop", "--master", wrong}).error_output;
  }
  EXPECT_EQ(seen.find("canary7Kq"), std::string::npos) << seen;
  EXPECT_NE(seen.find("event=sender_ready"), std::string::npos) << seen;
}

}  // namespace
}  // namespace bitacora::harness
