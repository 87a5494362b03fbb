// What many receivers cost the master: the CPU time of its backends that decode, for one receiver
// of all tables, for several with a part of them each from the same slot, and for as many built-in
// subscriptions, in rounds, one after the other.
//   build/release/fan_out [--rate N] [--seconds N] [--receivers N] [--rounds N] [SERVER]
#include <fmt/format.h>

#include <array>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "bench/command.h"
#include "bench/cpu_meter.h"
#include "bench/median.h"
#include "bench/patience.h"
#include "bench/quiet_cluster.h"
#include "bench/subset_follower.h"
#include "bench/workload.h"
#include "tests/postgres/database.h"

namespace bitacora::bench {
namespace {

constexpr int kKeys = 10'000;           // in each table
constexpr double kTargetRatio = 1.3;    // of many to one
constexpr double kRateShareMin = 0.97;  // that pgbench must have come to
constexpr std::chrono::milliseconds kLookInterval{250};
constexpr std::array kRoles{"master", "sender", "receivers", "standby"};

struct Options {
  double rate = 1000;
  int seconds = 30;
  int receivers = 8;
  int rounds = 3;
  std::string server;
};

// One row of one table: inserted, or changed when its key is there.
std::string script(int table) {
  return fmt::format(
      "\\set id random(1, {})\n"
      "INSERT INTO {} AS t VALUES (:id, 1, 'a note of some length about ' || :id)\n"
      "ON CONFLICT (id) DO UPDATE SET hits = t.hits + 1;\n",
      kKeys, subset_table(table));
}

class Load {
 public:
  Load(const std::filesystem::path& directory, const Options& options) : directory_(directory) {
    for (int i = 1; i <= options.receivers; ++i) {
      const auto path = directory_.path() / fmt::format("{}.sql", subset_table(i));
      std::ofstream(path) << script(i);
      arguments_.push_back("--file=" + path.string());
    }
    for (const auto& argument :
         {std::string("--client=8"), std::string("--jobs=2"), std::string("--no-vacuum"),
          std::string("--protocol=prepared"), fmt::format("--time={}", options.seconds),
          fmt::format("--rate={:.1f}", options.rate)})
      arguments_.push_back(argument);
  }

  // To the end; transactions per second.
  double run(const std::string& master, const std::function<void()>& meanwhile) const {
    auto arguments = arguments_;
    arguments.push_back(as_observer(master));  // its sessions are nobody's cost
    return transactions_per_second(pgbench(std::move(arguments), false, meanwhile));
  }

 private:
  WorkingDirectory directory_;
  std::vector<std::string> arguments_;
};

struct Turn {
  double transactions_per_second = 0;
  CpuSeconds cpu_per_transaction = {};
};

Turn take_turn(const Servers& servers, SubsetFollower& follower, const Load& load, int seconds) {
  follower.follow();
  follower.await_everything();  // what came while it was away
  for (const auto* cluster : {&servers.master, &servers.standby})
    harness::execute(cluster->conninfo(), "CHECKPOINT");
  CpuMeter meter;
  follower.watch(meter);
  meter.watch("master", find_backends(servers.master.conninfo(), follower.name()));
  meter.watch("standby", find_backends(servers.standby.conninfo(), follower.name() + "%"));
  meter.begin();
  const auto look = seldom(
      [&] {
        follower.throw_if_failed();
        meter.sample();
      },
      kLookInterval);
  Turn turn;
  turn.transactions_per_second = load.run(follower.master(), look);
  follower.await_everything();
  meter.sample();
  for (const auto& [role, used] : meter.seconds())
    turn.cpu_per_transaction[role] = used / (turn.transactions_per_second * seconds);
  follower.compare();
  follower.leave();
  return turn;
}

// Microseconds per transaction.
std::string cpu_columns(const CpuSeconds& cpu) {
  std::string columns;
  for (const char* role : kRoles) {
    const auto found = cpu.find(role);
    columns += found == cpu.end() ? fmt::format("{:>11}", "-")
                                  : fmt::format("{:>11.1f}", found->second * 1e6);
  }
  return columns;
}

class Contest {
 public:
  Contest(const Servers& servers, const Options& options)
      : servers_(servers),
        options_(options),
        load_(servers.master.directory().string() + "-scripts", options) {
    followers_.push_back(std::make_unique<ReceiverFollower>(
        servers, "one", options.receivers, std::vector<Subset>{{"one_all", all_tables()}}));
    followers_.push_back(std::make_unique<ReceiverFollower>(servers, "fan_out", options.receivers,
                                                            subsets("fan_out")));
    followers_.push_back(std::make_unique<SubscriptionFollower>(
        servers, "builtin", options.receivers, subsets("builtin")));
  }

  void run() {
    std::cout << fmt::format("  {:<10}{:<9}{:>12}   CPU, microseconds per transaction\n  {:<31}",
                             "", "", "", "");
    for (const char* role : kRoles) std::cout << fmt::format("{:>11}", role);
    std::cout << std::endl;
    for (int round = 1; round <= options_.rounds; ++round) {
      for (auto& follower : followers_) run(*follower, round);
    }
    for (const char* name : {"fan_out", "builtin"}) print_ratio(name);
  }

 private:
  std::vector<int> all_tables() const {
    std::vector<int> numbers(static_cast<std::size_t>(options_.receivers));
    std::iota(numbers.begin(), numbers.end(), 1);
    return numbers;
  }
  std::vector<Subset> subsets(const std::string& name) const {
    std::vector<Subset> all;
    for (const int table : all_tables())
      all.push_back({fmt::format("{}_{}", name, table), {table}});
    return all;
  }

  void run(SubsetFollower& follower, int round) {
    const auto turn = take_turn(servers_, follower, load_, options_.seconds);
    const bool loaded = turn.transactions_per_second >= options_.rate * kRateShareMin;
    std::cout << fmt::format("  {:<10}round {:<3}{:>10.0f}/s{}{}\n", follower.name(), round,
                             turn.transactions_per_second, cpu_columns(turn.cpu_per_transaction),
                             loaded ? "" : "   the master does not come to the rate")
              << std::flush;
    master_cpu_[follower.name()].push_back(turn.cpu_per_transaction.at("master"));
  }

  void print_ratio(const std::string& name) const {
    const double one = median(master_cpu_.at("one"));
    const double many = median(master_cpu_.at(name));
    std::cout << fmt::format("  master's CPU, {} : one  {:.2f} ({:.1f} : {:.1f} us)", name,
                             many / one, many * 1e6, one * 1e6);
    if (name == "fan_out") {
      std::cout << fmt::format("   {} (at most {})", many <= kTargetRatio * one ? "kept" : "missed",
                               kTargetRatio);
    }
    std::cout << "\n";
  }

  const Servers& servers_;
  const Options& options_;
  Load load_;
  std::vector<std::unique_ptr<SubsetFollower>> followers_;
  std::map<std::string, std::vector<double>> master_cpu_;
};

void run(const Options& options) {
  const auto many = std::to_string(4 * options.receivers + 20);
  const std::map<std::string, std::string> room = {{"max_replication_slots", many},
                                                   {"max_wal_senders", many},
                                                   {"max_connections", "200"},
                                                   {"max_worker_processes", many},
                                                   {"max_logical_replication_workers", many}};
  auto master = quiet_cluster("bench-master", options.server, room);
  auto standby = quiet_cluster("bench-standby", options.server, room);
  std::cout << fmt::format(
                   "PostgreSQL {}, {} cores; {} tables and receivers, {:.0f} transactions/s of one "
                   "row, {} s a turn, asynchronous commit\n",
                   harness::query_value(master.conninfo(), "SHOW server_version"),
                   std::thread::hardware_concurrency(), options.receivers, options.rate,
                   options.seconds)
            << std::flush;
  const Servers servers{master, standby};
  Contest(servers, options).run();
  std::cout << "every subset is equal to the master's\n";
}

}  // namespace
}  // namespace bitacora::bench

int main(int argc, char** argv) {
  bitacora::bench::Options options;
  CLI::App app{"What many receivers of one slot cost the master", "fan_out"};
  bitacora::bench::add_server(app, options.server);
  app.add_option("--rate", options.rate, "transactions per second")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--seconds", options.seconds, "of each turn")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--receivers", options.receivers, "and tables")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  bitacora::bench::add_rounds(app, options.rounds);
  return bitacora::bench::run_command(app, argc, argv, [&] { bitacora::bench::run(options); });
}
