// The master need not wait for the standby: what was received is durable at the receiver, and is
// applied when the standby is back.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "tests/engine/refusal.h"
#include "tests/postgres/database.h"

namespace bitacora::harness {
namespace {

namespace fs = std::filesystem;

constexpr std::chrono::seconds kCaughtUpWithin{60};

void check(const Result<void>& done) {
  if (!done.ok()) throw std::runtime_error(one_line(done.error()));
}

class StoreAndForward : public testing::Test {
 protected:
  void start(std::vector<std::string> receiver_arguments = {}) {
    PairOptions options;
    options.receiver_arguments = std::move(receiver_arguments);
    pair_.emplace(shared_master(), standby_, options);
    pair_->on_both("CREATE TABLE t (id bigserial PRIMARY KEY, v text)");
    pair_->start();
    insert(1000);
    pair_->wait_applied();
  }
  void insert(int rows) const {
    pair_->on_master("INSERT INTO t (v) SELECT md5(random()::text) FROM generate_series(1, " +
                     std::to_string(rows) + ") AS i");
  }
  // Everything committed on the master before the call is confirmed at the slot.
  bool slot_follows() const {
    const auto written = query_value(pair_->master(), "SELECT pg_current_wal_lsn()");
    return eventually([&] {
      return query_value(pair_->master(), "SELECT confirmed_flush_lsn >= '" + written +
                                              "' FROM pg_replication_slots WHERE slot_name = "
                                              "'bitacora_" +
                                              pair_->name() + "'") == "t";
    });
  }
  nlohmann::json receiver_status() const {
    const auto printed = Pair::bitacora({"status", "--http", pair_->receiver_http(), "--json"});
    return nlohmann::json::parse(printed.output);
  }
  std::vector<fs::path> segments() const {
    std::vector<fs::path> found;
    for (const auto& entry : fs::directory_iterator(pair_->data_dir() / "spool"))
      found.push_back(entry.path());
    std::sort(found.begin(), found.end());
    return found;
  }
  void expect_caught_up() {
    pair_->wait_applied(kCaughtUpWithin);
    EXPECT_TRUE(pair_->same_content("public.t"));
  }

  engine::ThrowawayCluster standby_ = engine::ThrowawayCluster::make("forward_standby").value();
  std::optional<Pair> pair_;
};

TEST_F(StoreAndForward, StandbyDown) {
  start();
  check(standby_.stop());
  for (int i = 0; i < 20; ++i) insert(1000);
  EXPECT_TRUE(slot_follows());
  pair_->on_master("UPDATE t SET v = 'changed' WHERE id % 7 = 0");
  EXPECT_TRUE(slot_follows());
  EXPECT_GT(receiver_status()["spool_bytes"], 100'000);
  check(standby_.start());
  expect_caught_up();
}

TEST_F(StoreAndForward, AKilledReceiverNeedsNoSender) {
  start();
  check(standby_.stop());
  insert(5000);
  EXPECT_TRUE(slot_follows());
  pair_->kill_receiver();
  pair_->start_receiver();  // without a standby: it waits, and goes on receiving
  insert(5000);
  EXPECT_TRUE(slot_follows());
  pair_->kill_receiver();
  EXPECT_EQ(pair_->stop_sender(), 0);
  pair_->start_receiver();
  check(standby_.start());
  EXPECT_TRUE(eventually([&] {
    try {
      return query_value(pair_->standby(), "SELECT count(*) FROM t") == "11000";
    } catch (const std::exception&) {  // it is starting
      return false;
    }
  }));
  pair_->start_sender();
  insert(10);
  expect_caught_up();
}

// What synchronous_commit = on promises then: a standby that was away has it all the same.
TEST_F(StoreAndForward, CommitsWaitForTheSpoolOnly) {
  auto master = engine::ThrowawayCluster::make("forward_master").value();
  Pair pair(master, standby_);
  pair.on_both("CREATE TABLE t (id int PRIMARY KEY)");
  pair.start();
  pair.wait_applied();
  execute(master.conninfo(),
          "ALTER SYSTEM SET synchronous_standby_names = 'bitacora_" + pair.name() + "'");
  execute(master.conninfo(), "SELECT pg_reload_conf()");
  ASSERT_TRUE(eventually([&] {
    return query_value(master.conninfo(),
                       "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") == "1";
  }));
  check(standby_.stop());
  pair.on_master("SET statement_timeout = '20s'; INSERT INTO t VALUES (1)");
  check(standby_.start());
  pair.wait_applied(kCaughtUpWithin);
  EXPECT_TRUE(pair.same_content("public.t"));
}

TEST_F(StoreAndForward, RestoredStandbyCatchesUp) {
  start();
  check(standby_.stop());
  const auto data = standby_.directory() / "data";
  const auto backup = standby_.directory() / "backup";
  fs::copy(data, backup, fs::copy_options::recursive | fs::copy_options::copy_symlinks);
  check(standby_.start());
  insert(2000);
  pair_->on_master("DELETE FROM t WHERE id <= 500");
  pair_->wait_applied(kCaughtUpWithin);
  EXPECT_TRUE(slot_follows());
  check(standby_.stop());
  for (const auto& entry : fs::recursive_directory_iterator(data)) {  // into the servers' own files
    if (!entry.is_regular_file() || entry.path().filename() == "postmaster.opts") continue;
    const auto saved = backup / fs::relative(entry.path(), data);
    if (fs::exists(saved)) {
      fs::copy_file(saved, entry.path(), fs::copy_options::overwrite_existing);
    }
  }
  for (const auto& entry : fs::directory_iterator(data / "pg_wal")) {
    if (entry.is_regular_file() && !fs::exists(backup / "pg_wal" / entry.path().filename()))
      fs::remove(entry.path());
  }
  check(standby_.start());
  insert(10);
  expect_caught_up();
}

TEST_F(StoreAndForward, FullSpoolHeals) {
  start({"--spool-max-size", "300kB", "--spool-keep-size", "0"});
  check(standby_.stop());
  for (int i = 0; i < 20; ++i) insert(2000);
  EXPECT_TRUE(eventually([&] {
    return pair_->receiver().error_output().find("event=spool_full") != std::string::npos;
  }));
  EXPECT_LT(receiver_status()["spool_bytes"], 400'000);
  check(standby_.start());
  expect_caught_up();
}

TEST_F(StoreAndForward, AppliedSegmentsAreRemoved) {
  start({"--spool-keep-time", "0", "--spool-keep-size", "0"});
  for (int i = 0; i < 6; ++i) {  // a new connection begins a new segment
    insert(1000);
    pair_->wait_applied();
    EXPECT_EQ(pair_->stop_sender(), 0);
    pair_->start_sender();
  }
  expect_caught_up();
  EXPECT_TRUE(eventually([&] { return segments().size() <= 2; })) << segments().size();
}

TEST_F(StoreAndForward, DamagedSpool) {
  start();
  check(standby_.stop());
  insert(5000);
  EXPECT_TRUE(slot_follows());
  std::this_thread::sleep_for(std::chrono::seconds(2));  // the checkpoint notes what is durable
  pair_->kill_receiver();
  const auto newest = segments().back();
  const auto size = fs::file_size(newest);
  std::fstream file(newest, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(static_cast<std::streamoff>(size / 2));
  file.put('\x5a').put('\x5a').put('\x5a').put('\x5a');
  file.close();
  check(standby_.start());
  pair_->start_receiver();
  expect_ends_refused(pair_->receiver(), 3, {newest.filename().string()});
  EXPECT_EQ(fs::file_size(newest), size) << "nothing was changed";
}

TEST_F(StoreAndForward, ForeignSpool) {
  start();
  pair_->stop();
  PairOptions options;
  options.name = "other_" + pair_->name();
  Pair other(shared_master(), standby_, options);
  other.on_both("CREATE TABLE t (id bigserial PRIMARY KEY, v text)");
  other.start();
  other.on_master("INSERT INTO t (v) VALUES ('theirs')");
  other.wait_applied();
  other.stop();
  fs::remove_all(pair_->data_dir() / "spool");
  fs::copy(other.data_dir() / "spool", pair_->data_dir() / "spool");
  pair_->start();
  expect_ends_refused(pair_->receiver(), 3, {pair_->name(), other.name(), "--data-dir"});
}

}  // namespace
}  // namespace bitacora::harness
