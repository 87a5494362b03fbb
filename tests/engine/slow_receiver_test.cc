// A receiver that does not keep pace, or comes back behind the others, costs them nothing: the
// sender reads for it alone until it has come near, and then for all together again.
// BITACORA_SLOW_KILLS (6): how often sender or slow receiver are killed in the case that does so.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <thread>

#include <fmt/format.h>

#include "tests/engine/refusal.h"
#include "tests/engine/slow_link.h"
#include "tests/postgres/database.h"
#include "tests/postgres/pair.h"

namespace bitacora::harness {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::size_t kMiB = 1u << 20;
// Bytes per second. By the first no connection lives long: what is on its way keeps heartbeats from
// arriving in time. By the second it does.
constexpr std::size_t kVerySlow = 1000;
constexpr std::size_t kSlow = 30'000;
constexpr std::chrono::minutes kPatience{3};
constexpr seconds kLagMax{5};

std::size_t resident_bytes(pid_t pid) {
  std::ifstream status(fmt::format("/proc/{}/status", pid));
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmRSS:")) return std::stoul(line.substr(6)) << 10;
  }
  return 0;
}

// The pair's receiver is the quick one; the slow one has a database and a link of its own.
class SlowReceiver : public testing::Test {
 protected:
  void make(const std::map<std::string, std::string>& settings = {}) {
    engine::ClusterOptions options;
    options.settings = settings;
    master_.emplace(engine::ThrowawayCluster::make("slow_master", options).value());
    pair_.emplace(*master_, shared_standby());
    slow_standby_ = fresh_database(shared_standby(), pair_->name() + "_2");
    slow_http_ = fmt::format("127.0.0.1:{}", engine::free_loopback_port().value());
    link_.emplace(pair_->sender_address());
    const std::string table = "CREATE TABLE t (id bigserial PRIMARY KEY, v text)";
    pair_->on_both(table);
    execute(slow_standby_, table);
    pair_->start();
    start_slow();
    ASSERT_TRUE(becomes("slow", "live")) << "it is registered";
    write(1);
    pair_->wait_applied();
    wait_for_slow();
  }
  void TearDown() override {
    if (HasFailure() && pair_) std::cout << pair_->story() << slow_story();
    slow_.reset();
    pair_.reset();
  }

  void start_slow() {
    slow_.emplace(receiver_command(*pair_, {{"--sender", link_->address()},
                                            {"--standby", slow_standby_},
                                            {"--name", "slow"},
                                            {"--data-dir", pair_->state_dir() / "slow"},
                                            {"--http", slow_http_}}));
  }
  void kill_slow() {
    past_ += slow_->error_output();
    slow_->kill();
  }
  std::string slow_story() const {
    return "--- slow receiver\n" + past_ + (slow_ ? slow_->error_output() : "");
  }

  // One transaction of rows of 1 kB that do not compress well.
  void write(int rows) const {
    pair_->on_master(
        fmt::format("INSERT INTO t (v) SELECT (SELECT string_agg(md5((random() + i + g)::text), '')"
                    " FROM generate_series(1, 32) AS g) FROM generate_series(1, {}) AS i",
                    rows));
  }
  // At a pace that the quick one keeps; answers how late it was at most.
  milliseconds write_mebibytes(
      int mebibytes, const std::function<void()>& between = [] {}) {
    milliseconds lag_max{0};
    for (int i = 0; i < mebibytes; ++i) {
      for (int transaction = 0; transaction < 8; ++transaction) write(128);
      const auto begun = Clock::now();
      pair_->wait_applied(kPatience);
      lag_max = std::max(lag_max, std::chrono::duration_cast<milliseconds>(Clock::now() - begun));
      between();
    }
    return lag_max;
  }

  void wait_for_slow() {
    const auto lsn = query_value(pair_->master(), "SELECT pg_current_wal_lsn()");
    ASSERT_TRUE(eventually(
        [&] {
          return query_value(slow_standby_,
                             "SELECT to_regclass('bitacora.progress') IS NOT NULL") == "t" &&
                 query_value(slow_standby_,
                             "SELECT count(*) FROM bitacora.progress WHERE applied_lsn >= '" + lsn +
                                 "'") == "1";
        },
        kPatience));
  }
  void expect_equal() {
    pair_->wait_applied(kPatience);
    ASSERT_NO_FATAL_FAILURE(wait_for_slow());
    const auto content = table_content(pair_->master(), "public.t");
    EXPECT_EQ(table_content(pair_->standby(), "public.t"), content);
    EXPECT_EQ(table_content(slow_standby_, "public.t"), content);
  }

  std::string reader_of(const std::string& receiver) const {
    const auto printed = Pair::bitacora({"status", "--http", pair_->sender_http(), "--json"});
    if (printed.exit_code != 0) return "";
    const auto status = nlohmann::json::parse(printed.output);
    for (const auto& each : status["receivers"]) {
      if (each["name"] == receiver && each["reader"].is_string()) return each["reader"];
    }
    return "";
  }
  bool becomes(const std::string& receiver, const std::string& reader) const {
    return eventually([&] { return reader_of(receiver) == reader; }, seconds(60));
  }
  std::string walsender() const {
    return query_value(pair_->master(),
                       "SELECT string_agg(pid::text, ' ') FROM pg_stat_replication "
                       "WHERE state = 'streaming'");
  }
  std::string slots() const {
    return query_value(pair_->master(),
                       "SELECT string_agg(slot_name || ' ' || wal_status, ' ') "
                       "FROM pg_replication_slots WHERE NOT temporary");
  }

  std::optional<engine::ThrowawayCluster> master_;
  std::optional<Pair> pair_;
  std::optional<SlowLink> link_;
  std::string slow_standby_;
  std::string slow_http_;
  std::optional<Process> slow_;
  std::string past_;  // what killed ones wrote
};

TEST_F(SlowReceiver, HoldsUpNeitherTheOthersNorTheSlot) {
  make();
  const auto walsender_before = walsender();
  const auto readings = pair_->said("event=reading");
  EXPECT_NE(walsender_before, "");
  link_->throttle(kVerySlow);
  std::size_t resident_max = 0;
  const auto note = [&] {
    resident_max = std::max(resident_max, resident_bytes(pair_->sender().pid()));
  };
  const auto lag_before = write_mebibytes(40, note);
  EXPECT_TRUE(becomes("slow", "catch_up"));
  EXPECT_EQ(reader_of(pair_->name()), "live");
  link_->throttle(kSlow);
  write_mebibytes(24, note);
  const auto resident_half = std::exchange(resident_max, 0);
  const auto lag_after = write_mebibytes(40, note);
  std::cout << fmt::format("lag at most {} and {} ms; resident at most {} and {} MiB\n",
                           lag_before.count(), lag_after.count(), resident_half / kMiB,
                           resident_max / kMiB);
  EXPECT_LT(lag_before, kLagMax);
  EXPECT_LT(lag_after, kLagMax);
  EXPECT_LT(resident_max, resident_half + 32 * kMiB) << "it grows with the 40 that were written";
  EXPECT_LT(resident_max, 128 * kMiB);
  EXPECT_EQ(walsender(), walsender_before);
  EXPECT_EQ(slots(), "bitacora_" + pair_->name() + " reserved");
  EXPECT_TRUE(becomes("slow", "catch_up")) << "it may be away for a moment";
  link_->open();
  expect_equal();
  EXPECT_TRUE(becomes("slow", "live"));
  EXPECT_EQ(walsender(), walsender_before);
  write(10);
  expect_equal();
  EXPECT_EQ(pair_->said("event=reading"), readings) << "the common read began anew";
}

TEST_F(SlowReceiver, IsKilledAndSoIsTheSender) {
  make();
  const char* text = std::getenv("BITACORA_SLOW_KILLS");
  const int kills = text != nullptr ? std::atoi(text) : 6;
  const auto seed = std::random_device{}();
  std::cout << "seed " << seed << "\n";
  std::mt19937 random(seed);
  std::jthread writer([this](const std::stop_token& stop) {
    for (int i = 1; !stop.stop_requested(); ++i) {
      write(i % 20 == 0 ? 2000 : 100);
      std::this_thread::sleep_for(milliseconds(20));
    }
  });
  for (int i = 0; i < kills; ++i) {
    link_->throttle(i % 2 == 0 ? kVerySlow : 10 * kSlow);
    std::this_thread::sleep_for(
        milliseconds(std::uniform_int_distribution<int>(100, 5000)(random)));
    if (random() % 2 == 0) {
      pair_->kill_sender();
      pair_->start_sender();
    } else {
      kill_slow();
      start_slow();
    }
    if (random() % 2 == 0) link_->open();
  }
  link_->open();
  writer.request_stop();
  writer.join();
  expect_equal();
  EXPECT_TRUE(becomes("slow", "live"));
  EXPECT_TRUE(becomes(pair_->name(), "live"));
}

TEST_F(SlowReceiver, ComesBackAndSetsNobodyBack) {
  make();
  const auto walsender_before = walsender();
  const auto readings = pair_->said("event=reading");
  send_signal(*slow_, SIGTERM);
  ASSERT_EQ(slow_->wait(seconds(20)), 0);
  write_mebibytes(12);
  std::jthread writer([this](const std::stop_token& stop) {
    while (!stop.stop_requested()) write(20);
  });
  start_slow();
  EXPECT_TRUE(becomes("slow", "live"));
  writer.request_stop();
  writer.join();
  expect_equal();
  EXPECT_GE(pair_->said("event=receiver_detached receiver=slow"), 1);
  EXPECT_GE(pair_->said("event=receiver_attached receiver=slow"), 1);
  EXPECT_EQ(pair_->said("event=reading"), readings) << "the common read began anew";
  EXPECT_EQ(walsender(), walsender_before);
}

// One slot is ours: none for a copy.
TEST_F(SlowReceiver, IsWaitedForWithoutAFreeSlot) {
  make({{"max_replication_slots", "1"}});
  send_signal(*slow_, SIGTERM);
  ASSERT_EQ(slow_->wait(seconds(20)), 0);
  write_mebibytes(2);
  const auto readings = pair_->said("event=reading");
  start_slow();
  expect_equal();
  EXPECT_EQ(pair_->said("event=own_reader_declined"), 1);
  EXPECT_EQ(pair_->said("event=reading"), readings + 1);
  EXPECT_TRUE(becomes("slow", "live"));
}

}  // namespace
}  // namespace bitacora::harness
