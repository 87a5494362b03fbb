// pgbench through a pair while everything is killed and comes back: nothing lost, nothing twice.
// In rounds: at the end of each the load pauses and the contents are compared.
//   BITACORA_CHAOS_SECONDS (60), BITACORA_CHAOS_KILLS (8, of four victims in turn),
//   BITACORA_CHAOS_SEED (random, printed), BITACORA_CHAOS_SCALE (10), BITACORA_CHAOS_WORKERS (4)
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
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
constexpr unsigned kKillsPerRound = 10;
constexpr std::size_t kMemoryBytesMax = 200u << 20;

unsigned setting(const char* name, unsigned otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr ? static_cast<unsigned>(std::atol(text)) : otherwise;
}

PairOptions with_workers() {
  PairOptions options;
  options.receiver_arguments = {"--workers", std::to_string(setting("BITACORA_CHAOS_WORKERS", 4))};
  return options;
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

  void run_for(std::chrono::seconds duration, unsigned kills) {
    const auto rounds = std::max(1u, (kills + kKillsPerRound - 1) / kKillsPerRound);
    for (unsigned round = 0; round < rounds && !testing::Test::HasFailure(); ++round) {
      SCOPED_TRACE(fmt::format("round {} of {}", round + 1, rounds));
      run_round(duration / rounds, kills * (round + 1) / rounds - kills * round / rounds);
      expect_equal();
    }
    std::cout << fmt::format(
        "{} kills, {} transactions; peak memory: sender {} MiB, receiver {} MiB\n", kills_done_,
        query_value(pair_.master(), "SELECT count(*) FROM pgbench_history"), sender_bytes_ >> 20,
        receiver_bytes_ >> 20);
  }

  std::string story() const { return pair_.story(); }

 private:
  using Kill = std::pair<Clock::time_point, std::function<void()>>;

  static std::string pgbench() { return "/usr/lib/postgresql/15/bin/pgbench"; }

  // Keeps pgbench running, also when the master's death ends it, and kills at the planned moments.
  void run_round(milliseconds duration, unsigned count) {
    const auto end = Clock::now() + duration;
    const auto kills = plan(duration, count);
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
      ++kills_done_;
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
  }

  void bench(Clock::time_point end) {
    const auto left = std::chrono::duration_cast<std::chrono::seconds>(end - Clock::now()).count();
    run({pgbench(), "-n", "-c", std::to_string(kClients), "-j", "2", "-T",
         std::to_string(std::max(1L, left)), pair_.master()},
        std::chrono::seconds(left + 20));
  }

  // Every victim as often as the others, over all rounds; in random order at random moments of the
  // round's middle.
  std::vector<Kill> plan(milliseconds duration, unsigned count) {
    const std::function<void()> each[] = {[this] {
                                            pair_.kill_sender();
                                            pair_.start_sender();
                                          },
                                          [this] {
                                            pair_.kill_receiver();
                                            pair_.start_receiver();
                                          },
                                          [this] { restart(standby_); },
                                          [this] { restart(master_); }};
    std::vector<std::function<void()>> victims;
    for (unsigned i = 0; i < count; ++i) victims.push_back(each[victim_++ % std::size(each)]);
    std::shuffle(victims.begin(), victims.end(), random_);
    std::uniform_int_distribution<std::int64_t> moment(1000, duration.count() - 2000);
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
  Pair pair_{master_, standby_, with_workers()};
  std::size_t sender_bytes_ = 0;
  std::size_t receiver_bytes_ = 0;
  unsigned victim_ = 0;
  unsigned kills_done_ = 0;
};

TEST(Chaos, PgbenchSurvivesKillingEverything) {
  const auto seed = setting("BITACORA_CHAOS_SEED", std::random_device{}());
  std::cout << "BITACORA_CHAOS_SEED=" << seed << "\n";
  Chaos chaos(seed);
  chaos.prepare(setting("BITACORA_CHAOS_SCALE", 10));
  if (HasFatalFailure()) return;
  chaos.run_for(std::chrono::seconds(setting("BITACORA_CHAOS_SECONDS", 60)),
                setting("BITACORA_CHAOS_KILLS", 8));
  if (HasFailure()) std::cout << chaos.story();
}

}  // namespace
}  // namespace bitacora::harness
