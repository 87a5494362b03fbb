// pgbench through a pair while everything is killed and comes back: nothing lost, nothing twice.
//   BITACORA_CHAOS_SECONDS (60), BITACORA_CHAOS_SEED (random, printed), BITACORA_CHAOS_SCALE (10)
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iostream>
#include <random>
#include <sstream>
#include <thread>

#include <fmt/format.h>

#include "engine/throwaway_cluster.h"
#include "tests/postgres/database.h"
#include "tests/postgres/pair.h"
#include "tests/postgres/process.h"

namespace bitacora::harness {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr int kClients = 8;
constexpr int kKillsEach = 2;
constexpr std::size_t kMemoryBytesMax = 200u << 20;

unsigned setting(const char* name, unsigned otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr ? static_cast<unsigned>(std::atol(text)) : otherwise;
}

// VmHWM: the most the process ever had resident.
std::size_t peak_resident_bytes(pid_t pid) {
  std::ifstream status(fmt::format("/proc/{}/status", pid));
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::stoul(line.substr(6)) << 10;
  }
  return 0;
}

class Chaos {
 public:
  explicit Chaos(unsigned seed) : random_(seed) {}

  void prepare(unsigned scale) {
    for (const auto& conninfo : {pair_.master(), pair_.standby()}) {
      const auto made = run({pgbench(), "-i", "-q", "-s", std::to_string(scale), conninfo},
                            std::chrono::minutes(5));
      ASSERT_EQ(made.exit_code, 0) << made.error_output;
    }
    pair_.start();
    pair_.wait_applied();
  }

  // Keeps pgbench running, also when the master's death ends it, and kills at the planned moments.
  void run_for(std::chrono::seconds duration) {
    const auto end = Clock::now() + duration;
    const auto kills = plan(duration);
    std::jthread load([&](const std::stop_token& stop) {
      while (!stop.stop_requested() && Clock::now() < end) bench(end);
    });
    for (const auto& [moment, kill] : kills) {
      while (Clock::now() < moment) {
        note_memory();
        std::this_thread::sleep_for(milliseconds(50));
      }
      note_memory();
      kill();
    }
  }

  void expect_equal() {
    pair_.wait_applied(std::chrono::minutes(3));
    note_memory();
    for (const char* table :
         {"pgbench_accounts", "pgbench_tellers", "pgbench_branches", "pgbench_history"}) {
      EXPECT_TRUE(pair_.same_content(std::string("public.") + table)) << table;
    }
    const std::string balances =
        "SELECT (SELECT sum(delta) FROM pgbench_history) = (SELECT sum(abalance) FROM "
        "pgbench_accounts)"
        " AND (SELECT sum(delta) FROM pgbench_history) = (SELECT sum(bbalance) FROM "
        "pgbench_branches)";
    EXPECT_EQ(query_value(pair_.standby(), balances), "t");
    const std::string count = "SELECT count(*) FROM pgbench_history";
    EXPECT_EQ(query_value(pair_.standby(), count), query_value(pair_.master(), count));
    EXPECT_LT(sender_bytes_, kMemoryBytesMax);
    EXPECT_LT(receiver_bytes_, kMemoryBytesMax);
    std::cout << fmt::format("{} transactions; peak memory: sender {} MiB, receiver {} MiB\n",
                             query_value(pair_.master(), count), sender_bytes_ >> 20,
                             receiver_bytes_ >> 20);
  }

  std::string story() const { return pair_.story(); }

 private:
  using Kill = std::pair<Clock::time_point, std::function<void()>>;

  static std::string pgbench() { return "/usr/lib/postgresql/15/bin/pgbench"; }

  void bench(Clock::time_point end) {
    const auto left = std::chrono::duration_cast<std::chrono::seconds>(end - Clock::now()).count();
    run({pgbench(), "-n", "-c", std::to_string(kClients), "-j", "2", "-T",
         std::to_string(std::max(1L, left)), pair_.master()},
        std::chrono::seconds(left + 20));
  }

  // Every victim twice, in random order at random moments of the run's middle.
  std::vector<Kill> plan(std::chrono::seconds duration) {
    std::vector<std::function<void()>> victims;
    for (int i = 0; i < kKillsEach; ++i) {
      victims.emplace_back([this] {
        pair_.kill_sender();
        pair_.start_sender();
      });
      victims.emplace_back([this] {
        pair_.kill_receiver();
        pair_.start_receiver();
      });
      victims.emplace_back([this] { restart(standby_); });
      victims.emplace_back([this] { restart(master_); });
    }
    std::shuffle(victims.begin(), victims.end(), random_);
    std::uniform_int_distribution<std::int64_t> moment(1000, milliseconds(duration).count() - 2000);
    std::vector<std::int64_t> moments(victims.size());
    std::generate(moments.begin(), moments.end(), [&] { return moment(random_); });
    std::sort(moments.begin(), moments.end());
    std::vector<Kill> kills;
    for (std::size_t i = 0; i < victims.size(); ++i) {
      kills.emplace_back(Clock::now() + milliseconds(moments[i]), victims[i]);
    }
    return kills;
  }

  static void restart(engine::ThrowawayCluster& cluster) {
    const auto killed = cluster.kill();
    ASSERT_TRUE(killed.ok());
    const auto started = cluster.start();
    ASSERT_TRUE(started.ok()) << one_line(started.error());
  }

  void note_memory() {
    sender_bytes_ = std::max(sender_bytes_, peak_resident_bytes(pair_.sender().pid()));
    receiver_bytes_ = std::max(receiver_bytes_, peak_resident_bytes(pair_.receiver().pid()));
  }

  std::mt19937 random_;
  engine::ThrowawayCluster master_ = engine::ThrowawayCluster::make("chaos-master").value();
  engine::ThrowawayCluster standby_ = engine::ThrowawayCluster::make("chaos-standby").value();
  Pair pair_{master_, standby_};
  std::size_t sender_bytes_ = 0;
  std::size_t receiver_bytes_ = 0;
};

TEST(Chaos, PgbenchSurvivesKillingEverything) {
  const auto seed = setting("BITACORA_CHAOS_SEED", std::random_device{}());
  std::cout << "BITACORA_CHAOS_SEED=" << seed << "\n";
  Chaos chaos(seed);
  chaos.prepare(setting("BITACORA_CHAOS_SCALE", 10));
  if (HasFatalFailure()) return;
  chaos.run_for(std::chrono::seconds(setting("BITACORA_CHAOS_SECONDS", 60)));
  chaos.expect_equal();
  if (HasFailure()) std::cout << chaos.story();
}

}  // namespace
}  // namespace bitacora::harness
