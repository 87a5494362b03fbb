// From COMMIT on the master to visible on the standby, one transaction at a time: this pair, the
// same one with a spool that is not synced, and a built-in subscription between the same two
// clusters, in turn, in one run.
//   build/release/commit_latency [TRANSACTIONS [BIN_DIR]]
#include <algorithm>
#include <chrono>
#include <iostream>
#include <pqxx/pqxx>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "bench/builtin_subscription.h"
#include "bench/pair.h"
#include "engine/throwaway_cluster.h"
#include "tests/postgres/database.h"

namespace {

namespace bench = bitacora::bench;
using bitacora::engine::ThrowawayCluster;
using bitacora::harness::execute;
using Clock = std::chrono::steady_clock;

constexpr int kRounds = 5;
constexpr std::chrono::seconds kPatience{30};

// One way of getting rows from the database `name` on the master to the one on the standby.
struct Way {
  std::string name;
  std::string master;
  std::string standby;
  std::vector<double> milliseconds = {};
  int next_id = 1;
};

void make_databases(const ThrowawayCluster& master, const ThrowawayCluster& standby,
                    const Way& way) {
  for (const auto* cluster : {&master, &standby}) {
    execute(cluster->conninfo(), "CREATE DATABASE " + way.name);
    execute(cluster->conninfo(way.name), "CREATE TABLE t (id integer PRIMARY KEY, v text)");
  }
}

// Commits one row and spins on the standby until it is there.
double one_transaction(pqxx::connection& master, pqxx::connection& standby, int id) {
  pqxx::nontransaction(master).exec(fmt::format("INSERT INTO t VALUES ({}, 'value {}')", id, id));
  const auto committed = Clock::now();
  const auto look = fmt::format("SELECT FROM t WHERE id = {}", id);
  while (pqxx::nontransaction(standby).exec(look).empty()) {
    if (Clock::now() - committed > kPatience)
      throw std::runtime_error(fmt::format("row {} did not arrive", id));
  }
  return std::chrono::duration<double, std::milli>(Clock::now() - committed).count();
}

void measure(Way& way, int transactions) {
  pqxx::connection master(way.master);
  pqxx::connection standby(way.standby);
  one_transaction(master, standby, way.next_id++);  // connected, caches warm
  for (int i = 0; i < transactions; ++i)
    way.milliseconds.push_back(one_transaction(master, standby, way.next_id++));
}

void print(const Way& way) {
  auto sorted = way.milliseconds;
  std::sort(sorted.begin(), sorted.end());
  const auto percentile = [&](double p) {
    return sorted[std::min(sorted.size() - 1,
                           static_cast<std::size_t>(p * static_cast<double>(sorted.size())))];
  };
  std::cout << fmt::format(
      "{:<22} {:>6} transactions  p50 {:6.3f} ms  p90 {:6.3f} ms  p99 {:6.3f} ms  max {:6.3f} ms\n",
      way.name, sorted.size(), percentile(0.5), percentile(0.9), percentile(0.99), sorted.back());
}

// A pair's turns. The sender stays; without a receiver it has no walsender, so it takes no part in
// the others' turns.
class Pair {
 public:
  Pair(Way& way, const std::string& directory, std::vector<std::string> receiver_arguments)
      : way_(way),
        receiver_arguments_(std::move(receiver_arguments)),
        directory_(directory),
        sender_(way.master, way.name, directory_.path() / "sender") {}

  void take_turn(int transactions) {
    bench::Receiver receiver(sender_, {way_.name, way_.standby, directory_.path() / "receiver"},
                             receiver_arguments_);
    measure(way_, transactions);
    receiver.stop();
  }

 private:
  Way& way_;
  std::vector<std::string> receiver_arguments_;
  bench::WorkingDirectory directory_;
  bench::Sender sender_;
};

void run(int transactions, const std::string& bin_dir) {
  auto master = ThrowawayCluster::make("bench-master", {bin_dir, {}, {}}).value();
  auto standby = ThrowawayCluster::make("bench-standby", {bin_dir, {}, {}}).value();
  const auto way = [&](const std::string& name) {
    return Way{name, master.conninfo(name), standby.conninfo(name)};
  };
  Way ours = way("bitacora");
  Way unsynced = way("bitacora_no_spool_sync");
  Way native = way("builtin");
  for (const auto* each : {&ours, &unsynced, &native}) make_databases(master, standby, *each);

  bench::BuiltinSubscription subscription(native.master, native.standby, native.name);
  Pair pair(ours, master.directory().string() + "-pair", {});
  Pair unsynced_pair(unsynced, master.directory().string() + "-unsynced-pair", {"--no-spool-sync"});

  for (int round = 0; round < kRounds; ++round) {
    measure(native, transactions / kRounds);
    subscription.disable();
    pair.take_turn(transactions / kRounds);
    unsynced_pair.take_turn(transactions / kRounds);
    subscription.enable();
  }
  for (const auto* each : {&ours, &unsynced, &native}) print(*each);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    run(argc > 1 ? std::stoi(argv[1]) : 500, argc > 2 ? argv[2] : "");
  } catch (const std::exception& e) {
    std::cerr << "commit_latency: " << e.what() << "\n";
    return 1;
  }
  return 0;
}
