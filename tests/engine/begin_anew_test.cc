// `bitacora receiver --begin-anew`: what a receiver forgets, and how it comes back to the stream.
#include <gtest/gtest.h>

#include <signal.h>

#include <filesystem>
#include <fstream>
#include <iostream>
#include <optional>
#include <thread>

#include <fmt/format.h>

#include "tests/engine/refusal.h"
#include "tests/postgres/database.h"
#include "tests/postgres/pair.h"

namespace bitacora::harness {
namespace {

PairOptions with_copy() {
  PairOptions options;
  options.copy = true;
  return options;
}

class BeginAnew : public testing::Test {
 protected:
  void start() {
    pair_.on_both("CREATE TABLE t (id bigserial PRIMARY KEY, v text)");
    pair_.on_master("INSERT INTO t (v) SELECT 'old' FROM generate_series(1, 100)");
    pair_.start();
    pair_.wait_applied();
  }
  void TearDown() override {
    if (HasFailure()) std::cout << pair_.story();
  }

  Finished begin_anew(const Changes& changes = {}) const {
    Changes options{{"--begin-anew", "true"}, {"--no-copy", ""}};
    for (const auto& [option, value] : changes) options[option] = value;
    return run(receiver_command(pair_, options));
  }
  Process start_receiver(const Changes& changes) const {
    Changes options{{"--no-copy", ""}};
    for (const auto& [option, value] : changes) options[option] = value;
    return Process(receiver_command(pair_, options));
  }
  std::string progress_rows() const {
    return query_value(pair_.standby(), "SELECT count(*) FROM bitacora.progress") + " " +
           query_value(pair_.standby(), "SELECT count(*) FROM bitacora.copied_tables");
  }
  // As one leaves it that is killed while a table catches up with the others.
  void leave_replay_row(const std::string& applied_lsn) const {
    pair_.on_standby(fmt::format(
        "INSERT INTO bitacora.progress (subscription, system_identifier, database, slot, stream,"
        " applied_lsn) SELECT subscription || ' resync', system_identifier, database, slot, stream,"
        " {} FROM bitacora.progress",
        applied_lsn));
  }
  void expect_resync_under_load() {
    std::jthread writer([this](const std::stop_token& stop) {
      while (!stop.stop_requested())
        pair_.on_master(
            "INSERT INTO t (v) VALUES ('more'); UPDATE t SET v = v || '+' WHERE id = 1");
    });
    for (int i = 0; i < 3; ++i) {
      const auto done = Pair::bitacora({"resync", "--http", pair_.receiver_http(), "public.t"});
      EXPECT_EQ(done.exit_code, 0) << done.error_output;
    }
    writer.request_stop();
    writer.join();
    pair_.wait_applied();
    EXPECT_TRUE(pair_.same_content("public.t"));
    EXPECT_GE(pair_.said("event=replaying"), 1);
  }

  Pair pair_{with_copy()};
};

TEST_F(BeginAnew, AfterItWasForgottenAndHasAGap) {
  start();
  EXPECT_EQ(pair_.stop_receiver(), 0);
  ASSERT_TRUE(eventually([&] {
    return Pair::bitacora({"sender", "--forget", pair_.name(), "--http", pair_.sender_http()})
               .exit_code == 0;
  }));
  pair_.on_master("UPDATE t SET v = 'new' WHERE id % 2 = 0; DELETE FROM t WHERE id % 5 = 0");
  const auto slot = "bitacora_" + pair_.name();
  ASSERT_TRUE(eventually([&] {
    return query_value(
               pair_.master(),
               "SELECT active FROM pg_replication_slots WHERE slot_name = '" + slot + "'") == "f";
  }));
  pair_.on_master("SELECT pg_replication_slot_advance('" + slot + "', pg_current_wal_lsn())");
  auto refused = start_receiver({});
  expect_ends_refused(refused, 3, {"the gap", "bitacora receiver --begin-anew", "--truncate"});

  const auto done = begin_anew();
  EXPECT_EQ(done.exit_code, 0) << done.error_output;
  EXPECT_EQ(done.output.find("receiver " + pair_.name() + " has forgotten everything, applied up"),
            0u)
      << done.output;
  EXPECT_EQ(progress_rows(), "0 0");
  EXPECT_TRUE(std::filesystem::is_empty(pair_.data_dir()));
  EXPECT_EQ(query_value(pair_.standby(), "SELECT count(*) FROM t"), "100") << "readers keep theirs";
  const auto again = begin_anew();
  EXPECT_NE(again.output.find("nothing was applied"), std::string::npos) << again.output;

  auto filled = start_receiver({});
  expect_ends_refused(filled, 2, {"hold rows already: public.t", "--truncate"});
  auto receiver = start_receiver({{"--truncate", "true"}});
  pair_.on_master("INSERT INTO t (v) VALUES ('newest')");
  EXPECT_TRUE(eventually([&] { return pair_.same_content("public.t"); }))
      << receiver.error_output();
}

TEST_F(BeginAnew, ForgetsAReplayThatWasKilled) {
  start();
  for (const char* applied_lsn : {"applied_lsn", "applied_lsn + 1000000000"}) {
    SCOPED_TRACE(applied_lsn);
    EXPECT_EQ(pair_.stop_receiver(), 0);
    leave_replay_row(applied_lsn);
    EXPECT_EQ(begin_anew().exit_code, 0);
    EXPECT_EQ(progress_rows(), "0 0");
    pair_.on_standby("TRUNCATE t");
    pair_.start_receiver();
    pair_.wait_applied();
    expect_resync_under_load();
  }
}

TEST_F(BeginAnew, NotOfOneThatRunsNorInAnothersDirectory) {
  start();
  expect_refused(begin_anew(), 3, {"receiver " + pair_.name() + " is running", "stop it first"});
  EXPECT_EQ(pair_.stop_receiver(), 0);
  expect_refused(begin_anew({{"--data-dir", pair_.state_dir()}}), 2,
                 {"holds files that are not a receiver's"});
  EXPECT_TRUE(std::filesystem::exists(pair_.state_dir() / "sender.toml"));
  EXPECT_EQ(progress_rows(), "1 1") << "nothing is forgotten then";
  expect_refused(begin_anew({{"--no-copy", "true"}}), 1, {"--no-copy goes with no --begin-anew"});
  const auto config = pair_.state_dir().parent_path() / "receiver.toml";
  std::ofstream(config) << "begin-anew = true\n";
  expect_refused(run(receiver_command(pair_, {{"--config", config}})), 2,
                 {"unknown key begin-anew"});
  EXPECT_EQ(progress_rows(), "1 1");
  pair_.start_receiver();
  pair_.on_master("INSERT INTO t (v) VALUES ('goes on')");
  pair_.wait_applied();
  EXPECT_TRUE(pair_.same_content("public.t"));
}

class BeginAnewMingled : public BeginAnew {
 protected:
  void start() {
    std::ofstream(config_) << "[table.'public.log']\nto = 'public.all_log'\nshared = true\n";
    pair_.on_master("CREATE TABLE log (v int); INSERT INTO log SELECT generate_series(1, 3)");
    pair_.on_standby("CREATE TABLE all_log (v int)");
    pair_.start_sender();
    receiver_.emplace(start_receiver({{"--config", config_}}));
    expect_all_log("1 2 3");
    stop();
  }
  void stop() {
    send_signal(*receiver_, SIGTERM);
    EXPECT_EQ(receiver_->wait(std::chrono::seconds(20)), 0) << receiver_->error_output();
  }
  void expect_all_log(const std::string& expected) {
    std::string found;
    EXPECT_TRUE(eventually([&] {
      if (receiver_->error_output().find("event=applying") == std::string::npos) return false;
      found =
          query_value(pair_.standby(), "SELECT string_agg(v::text, ' ' ORDER BY v) FROM all_log");
      return found == expected;
    })) << found
        << "\n"
        << receiver_->error_output();
  }
  void expect_kept() {
    expect_refused(begin_anew({{"--config", config_}}), 2,
                   {pair_.name(), "public.log cannot be copied anew", "public.all_log", "constants",
                    "DELETE FROM bitacora.targets WHERE subscription = '" + pair_.name() + "'"});
  }
  void expect_copied_anew(const std::string& expected) {
    EXPECT_EQ(begin_anew({{"--config", config_}}).exit_code, 0);
    receiver_.emplace(start_receiver({{"--config", config_}, {"--truncate", "true"}}));
    expect_all_log(expected);
    stop();
  }

  const std::string config_ = testing::TempDir() + pair_.name() + ".toml";
  std::optional<Process> receiver_;
};

TEST_F(BeginAnewMingled, IsRefusedWhereRowsWouldBeDoubled) {
  start();
  expect_kept();
  EXPECT_EQ(progress_rows(), "1 1");
  pair_.on_master("INSERT INTO log VALUES (4)");
  receiver_.emplace(start_receiver({{"--config", config_}}));
  expect_all_log("1 2 3 4");
  stop();
  pair_.on_standby("DELETE FROM bitacora.copied_tables");
  expect_kept();  // who began without a copy wrote there, too
}

TEST_F(BeginAnewMingled, OnceItsRowsAreTakenAway) {
  start();
  pair_.on_standby("TRUNCATE all_log");
  expect_copied_anew("1 2 3");
  pair_.on_standby("INSERT INTO all_log VALUES (-1)");
  expect_kept();
  pair_.on_standby("DELETE FROM all_log WHERE v > 0");
  expect_kept();  // it does not see whose the last one is
  for (const char* table : {"targets", "copied_tables"})
    pair_.on_standby(fmt::format("DELETE FROM bitacora.{}", table));
  expect_copied_anew("-1 1 2 3");
}

TEST_F(BeginAnewMingled, OnceConstantsTellItsRows) {
  start();
  pair_.on_standby(
      "ALTER TABLE all_log ADD of text DEFAULT 'a'; ALTER TABLE all_log ALTER of DROP DEFAULT; "
      "INSERT INTO all_log VALUES (-1, 'b')");
  std::ofstream(config_) << "[table.'public.log']\nto = 'public.all_log'\nshared = true\n"
                            "constants = { of = 'a' }\n";
  expect_copied_anew("-1 1 2 3");
}

// Killed after the rows' COMMIT, before the table was noted as copied; the sender's snapshot went.
TEST_F(BeginAnewMingled, AndNoCopyBeginsTwice) {
  start();
  pair_.on_standby(
      "INSERT INTO bitacora.copied_parts SELECT subscription, schema_name, table_name, 1, 0, 0, 3,"
      " 30 FROM bitacora.copied_tables;"
      "UPDATE bitacora.copied_tables SET copied = false, snapshot = '00000003-0000001B-1',"
      " hold_lsn = applied_lsn FROM bitacora.progress;"
      "UPDATE bitacora.progress SET applied_lsn = '0/0'");
  auto again = start_receiver({{"--config", config_}});
  expect_ends_refused(
      again, 2, {"public.log cannot be copied anew", "public.all_log", "bitacora.copied_parts"});
  EXPECT_EQ(query_value(pair_.standby(), "SELECT count(*) FROM all_log"), "3");
  pair_.on_standby("TRUNCATE all_log; DELETE FROM bitacora.copied_parts");
  receiver_.emplace(start_receiver({{"--config", config_}}));
  expect_all_log("1 2 3");
  stop();
}

}  // namespace
}  // namespace bitacora::harness
