// What may happen while tables are copied: locks, TRUNCATE and DDL on the master, a full disk, a
// stop, other receivers.
#include <gtest/gtest.h>

#include <signal.h>

#include <filesystem>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <pqxx/pqxx>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include "tests/engine/refusal.h"
#include "tests/engine/small_disk.h"
#include "tests/postgres/database.h"
#include "tests/postgres/pair.h"

namespace bitacora::harness {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;

class Lock {
 public:
  Lock(const std::string& conninfo, const std::string& what) : connection_(conninfo) {
    work_.emplace(connection_);
    work_->exec("LOCK TABLE " + what);
  }
  void write(const std::string& sql) { work_->exec(sql); }
  void release() { work_.reset(); }
  std::string pid() const { return std::to_string(connection_.backendpid()); }

 private:
  pqxx::connection connection_;
  std::optional<pqxx::work> work_;
};

class CopyDisturbed : public testing::Test {
 protected:
  void make(std::vector<std::string> receiver_arguments = {}) {
    PairOptions options;
    options.copy = true;
    options.receiver_arguments = {"--copy-sessions", "1", "--split-tables-larger-than", "1MB"};
    options.receiver_arguments.insert(options.receiver_arguments.end(), receiver_arguments.begin(),
                                      receiver_arguments.end());
    pair_.emplace(options);
    pair_->on_both(
        "CREATE TABLE big (id int PRIMARY KEY, v text); CREATE TABLE small (id int PRIMARY KEY, v "
        "int)");
    pair_->on_master(
        "INSERT INTO big SELECT i, repeat(md5(i::text), 8) FROM generate_series(1, 20000) i;"
        "INSERT INTO small SELECT i, i FROM generate_series(1, 100) i");
  }
  // A receiver that has its snapshot and its progress row, and is about to empty its first table.
  std::unique_ptr<Lock> start_and_hold_up() {
    auto lock = std::make_unique<Lock>(pair_->standby(), "big IN ACCESS SHARE MODE");
    pair_->start();
    EXPECT_TRUE(eventually([&] {
      return query_value(pair_->standby(),
                         "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = "
                         "'big'::regclass") != "0";
    })) << pair_->story();
    return lock;
  }
  void expect_equal() {
    pair_->wait_applied(milliseconds(60000));
    for (const char* table : {"public.big", "public.small"}) {
      SCOPED_TRACE(table);
      EXPECT_TRUE(pair_->same_content(table));
    }
  }
  nlohmann::json copy_status() const {
    const auto printed = Pair::bitacora({"status", "--http", pair_->receiver_http(), "--json"});
    const auto document = nlohmann::json::parse(printed.output, nullptr, false);
    return document.is_object() ? document.value("copy", nlohmann::json()) : nlohmann::json();
  }
  std::string waiting_for() const {
    const auto copy = copy_status();
    if (!copy.is_object() || !copy.contains("waiting_for")) return "";
    return copy["waiting_for"].is_string() ? copy["waiting_for"].get<std::string>() : "";
  }
  void TearDown() override {
    if (HasFailure() && pair_) std::cout << pair_->story();
  }

  std::optional<Pair> pair_;
};

TEST_F(CopyDisturbed, ALockOnTheMasterIsWaitedForAndNamed) {
  make();
  auto holding = start_and_hold_up();
  auto lock = std::make_unique<Lock>(pair_->master(), "small IN ACCESS EXCLUSIVE MODE");
  holding.reset();
  EXPECT_TRUE(eventually([&] {
    return waiting_for().find("public.small is locked by pid " + lock->pid()) != std::string::npos;
  })) << waiting_for();
  EXPECT_GE(pair_->said("event=copy_waits table=public.small"), 1);
  EXPECT_GE(pair_->said("pid " + lock->pid()), 1);
  lock.reset();
  expect_equal();
  EXPECT_EQ(waiting_for(), "");
  EXPECT_EQ(pair_->said("event=session_lost"), 0);
  EXPECT_LE(pair_->said("event=copy_waits"), 2) << "the same is said once";
}

TEST_F(CopyDisturbed, ALockOnTheStandbyIsWaitedFor) {
  make();
  auto holding = start_and_hold_up();
  pair_->on_master("UPDATE small SET v = v + 1; DELETE FROM big WHERE id % 7 = 0");
  EXPECT_TRUE(pair_->receiver().running());
  holding.reset();
  expect_equal();
}

TEST_F(CopyDisturbed, TruncatedBeforeItIsRead) {
  make();
  auto holding = start_and_hold_up();
  pair_->on_master("TRUNCATE small; INSERT INTO small VALUES (7, 7)");
  holding.reset();
  expect_equal();
  EXPECT_EQ(query_value(pair_->standby(), "SELECT count(*) FROM small"), "1");
}

TEST_F(CopyDisturbed, AllTruncatedBeforeTheyAreRead) {
  make();
  auto holding = start_and_hold_up();
  pair_->on_master("TRUNCATE big, small; INSERT INTO big VALUES (1, 'new')");
  holding.reset();
  expect_equal();
}

TEST_F(CopyDisturbed, GivenAColumnBeforeItIsRead) {
  make();
  auto holding = start_and_hold_up();
  pair_->on_master("ALTER TABLE small ADD w int");
  holding.reset();
  const std::string shared = "(SELECT id, v FROM public.small)";
  pair_->wait_applied();
  EXPECT_EQ(table_content(pair_->standby(), shared), table_content(pair_->master(), shared));
  pair_->on_master("INSERT INTO small VALUES (1000, 1, 2)");
  expect_ends_refused(pair_->receiver(), 5, {"public.small", "no column w", "ADD COLUMN"});
  pair_->on_standby("ALTER TABLE small ADD w int");
  pair_->start_receiver();
  expect_equal();
}

// Its rows are in a new file, where the snapshot does not find them.
TEST_F(CopyDisturbed, RewrittenBeforeItIsRead) {
  make();
  auto holding = start_and_hold_up();
  pair_->on_master(
      "ALTER TABLE small ALTER v TYPE bigint; ALTER TABLE small ADD r uuid DEFAULT "
      "gen_random_uuid()");
  holding.reset();
  expect_ends_refused(pair_->receiver(), 5, {"public.small", "no column r", "ADD COLUMN"});
  pair_->on_standby("ALTER TABLE small ADD r uuid");
  pair_->start_receiver();
  expect_equal();
}

TEST_F(CopyDisturbed, LosesAColumnBeforeItIsRead) {
  make();
  auto holding = start_and_hold_up();
  pair_->on_master("ALTER TABLE small DROP v");
  holding.reset();
  pair_->on_master("INSERT INTO small VALUES (1000)");
  pair_->wait_applied();
  EXPECT_EQ(table_content(pair_->standby(), "(SELECT id FROM public.small)"),
            table_content(pair_->master(), "public.small"));
}

// What happened to it before must not be missed by what was never copied.
TEST_F(CopyDisturbed, DroppedBeforeItIsRead) {
  make();
  auto holding = start_and_hold_up();
  pair_->on_master("UPDATE small SET v = v + 1");
  pair_->on_master("DROP TABLE small; INSERT INTO big VALUES (-1, 'later')");
  holding.reset();
  pair_->wait_applied();
  EXPECT_TRUE(pair_->same_content("public.big"));
  EXPECT_EQ(query_value(pair_->standby(), "SELECT count(*) FROM small"), "0");
  EXPECT_EQ(pair_->said("event=copy_given_up table=public.small"), 1);
  EXPECT_EQ(pair_->stop_receiver(), 0);
  pair_->start_receiver();
  pair_->on_master("UPDATE big SET v = 'after' WHERE id = 3");
  pair_->wait_applied();
  EXPECT_TRUE(pair_->same_content("public.big"));
  EXPECT_EQ(pair_->said("event=copy_given_up"), 1) << "once and for all";
}

TEST_F(CopyDisturbed, DroppedAndMadeAnewBeforeItIsRead) {
  make();
  auto holding = start_and_hold_up();
  pair_->on_master(
      "DROP TABLE small; CREATE TABLE small (id int PRIMARY KEY, v int); INSERT INTO small VALUES "
      "(3, 4)");
  holding.reset();
  expect_equal();
}

// A part takes its time, by a trigger of the standby's.
TEST_F(CopyDisturbed, AStopGoesOnWithTheMissingParts) {
  make();
  pair_->on_standby(
      "CREATE FUNCTION take_time() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM "
      "pg_sleep(0.4); RETURN NULL; END'; CREATE TRIGGER slow BEFORE INSERT ON big EXECUTE FUNCTION "
      "take_time(); ALTER TABLE big ENABLE ALWAYS TRIGGER slow");
  pair_->start();
  ASSERT_TRUE(eventually([&] {
    return query_value(pair_->standby(), "SELECT to_regclass('bitacora.copied_parts')") != "" &&
           query_value(pair_->standby(), "SELECT count(*) >= 3 FROM bitacora.copied_parts") == "t";
  }));
  pair_->on_master("UPDATE big SET v = 'meanwhile' WHERE id % 3 = 0");
  send_signal(pair_->receiver(), SIGTERM);
  EXPECT_EQ(pair_->receiver().wait(milliseconds(5000)), 0) << "gone within 5 s";
  const auto done =
      std::stoi(query_value(pair_->standby(), "SELECT count(*) FROM bitacora.copied_parts"));
  const auto parts_said = [&] {
    const auto story = pair_->story();
    const auto at = story.rfind("event=copying tables=");
    return std::stoi(story.substr(story.find("parts=", at) + 6));
  };
  const int at_first = parts_said();
  EXPECT_GT(at_first, done + 1) << "it was too fast";
  pair_->on_standby("DROP TRIGGER slow ON big");
  pair_->start_receiver();
  expect_equal();
  EXPECT_EQ(parts_said(), at_first - done) << "what was there was copied again, or was forgotten";
  EXPECT_EQ(pair_->said("event=copy_begun"), 1);
}

// Of transactions that were open before: nothing has begun then.
TEST_F(CopyDisturbed, AStopWhileTheSnapshotIsWaitedFor) {
  make();
  pair_->start_sender();
  pair_->wait_for_slot();
  Lock lock(pair_->master(), "small IN ROW EXCLUSIVE MODE");
  lock.write("INSERT INTO small VALUES (-1, 1)");
  pair_->start_receiver();
  EXPECT_TRUE(eventually([&] { return waiting_for().find(lock.pid()) != std::string::npos; }))
      << copy_status().dump();
  EXPECT_EQ(copy_status()["phase"], "preparing");
  std::this_thread::sleep_for(milliseconds(2500));
  EXPECT_EQ(pair_->said("event=copy_waits"), 1) << "the same is said once";
  send_signal(pair_->receiver(), SIGTERM);
  EXPECT_EQ(pair_->receiver().wait(milliseconds(5000)), 0);
  EXPECT_EQ(left_on_standby(*pair_), "");
  lock.release();
  pair_->start_receiver();
  expect_equal();
}

TEST_F(CopyDisturbed, AStopWhileTheMastersTableIsLocked) {
  make();
  auto holding = start_and_hold_up();
  Lock lock(pair_->master(), "small IN ACCESS EXCLUSIVE MODE");
  holding.reset();
  for (int round = 0; round < 2; ++round) {
    EXPECT_TRUE(
        eventually([&] { return waiting_for().find("public.small") != std::string::npos; }));
    send_signal(pair_->receiver(), SIGTERM);
    EXPECT_EQ(pair_->receiver().wait(milliseconds(5000)), 0);
    pair_->start_receiver();
  }
  lock.release();
  expect_equal();
  EXPECT_EQ(pair_->said("event=copy_begun"), 1) << "in the same snapshot";
  EXPECT_GE(pair_->said("event=copying tables=1 "), 2) << "the other table was there already";
}

TEST_F(CopyDisturbed, AStopWhileTheStandbysTableIsLocked) {
  make();
  auto holding = start_and_hold_up();
  send_signal(pair_->receiver(), SIGTERM);
  EXPECT_EQ(pair_->receiver().wait(milliseconds(5000)), 0);
  holding.reset();
  pair_->start_receiver();
  expect_equal();
}

TEST_F(CopyDisturbed, TheStandbysDiskIsFull) {
  if (!can_mount()) GTEST_SKIP() << "mounting a small file system needs root";
  auto standby = engine::ThrowawayCluster::make("copy_full").value();
  const auto small = standby.directory() / "small";
  fs::create_directory(small);
  SmallDisk disk(small, 24u << 20);
  const auto space = small / "space";
  fs::create_directory(space);
  ASSERT_EQ(run({"chown", "--reference", standby.directory() / "data", space}).exit_code, 0);
  execute(standby.conninfo(), "CREATE TABLESPACE small LOCATION '" + space.string() + "'");
  PairOptions options;
  options.copy = true;
  options.receiver_arguments = {"--create-schema", "--split-tables-larger-than", "1MB"};
  pair_.emplace(shared_master(), standby, options);
  pair_->on_standby(fmt::format("ALTER DATABASE {} SET default_tablespace = small", pair_->name()));
  pair_->on_master(
      "CREATE TABLE big (id int PRIMARY KEY, v text); CREATE INDEX by_v ON big (v); CREATE TABLE "
      "small (id int PRIMARY KEY, v int); INSERT INTO small VALUES (1, 1); INSERT INTO big SELECT "
      "i, "
      "repeat(md5(i::text), 8) FROM generate_series(1, 20000) i");
  disk.fill_up();
  pair_->start();
  EXPECT_TRUE(eventually([&] { return pair_->said("No space left on device") > 0; }));
  pair_->on_master("UPDATE big SET v = 'meanwhile' WHERE id % 1000 = 0");
  disk.remove_ballast();
  expect_equal();
  EXPECT_EQ(
      query_value(pair_->standby(), "SELECT count(*) FROM pg_indexes WHERE tablename = 'big'"),
      "2");
  EXPECT_LE(pair_->said("event=session_lost"), 4);
}

TEST_F(CopyDisturbed, FiveReceiversAtTheSameTime) {
  make();
  pair_->start_sender();
  pair_->wait_for_slot();
  std::vector<std::string> standbys;
  std::vector<std::unique_ptr<Process>> receivers;
  for (int i = 0; i < 5; ++i) {
    const auto name = fmt::format("{}_{}", pair_->name(), i);
    standbys.push_back(fresh_database(shared_standby(), name));
    receivers.push_back(std::make_unique<Process>(
        receiver_command(*pair_, {{"--no-copy", ""},
                                  {"--create-schema", "true"},
                                  {"--split-tables-larger-than", "1MB"},
                                  {"--standby", standbys.back()},
                                  {"--data-dir", pair_->data_dir() / name},
                                  {"--name", name},
                                  {"--http", free_address()}})));
  }
  pair_->on_master("UPDATE small SET v = v + 1; DELETE FROM big WHERE id % 5 = 0");
  const auto lsn = query_value(pair_->master(), "SELECT pg_current_wal_lsn()");
  for (std::size_t i = 0; i < standbys.size(); ++i) {
    SCOPED_TRACE(i);
    EXPECT_TRUE(eventually(
        [&] {
          return query_value(standbys[i], "SELECT to_regclass('bitacora.progress')") != "" &&
                 query_value(standbys[i], "SELECT coalesce(min(applied_lsn) >= '" + lsn +
                                              "', false) FROM bitacora.progress") == "t";
        },
        milliseconds(60000)))
        << receivers[i]->error_output();
    for (const char* table : {"public.big", "public.small"})
      EXPECT_EQ(table_content(standbys[i], table), table_content(pair_->master(), table));
  }
  EXPECT_EQ(pair_->said("event=copy_begun"), 5);
  EXPECT_TRUE(eventually([&] { return pair_->said("event=copy_ended") == 5; }));
}

}  // namespace
}  // namespace bitacora::harness
