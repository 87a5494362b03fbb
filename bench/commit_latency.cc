// From COMMIT on the master to visible on the standby, one transaction at a time: this pair and a
// built-in subscription between the same two clusters, in turn, in one run.
//   build/release/commit_latency [TRANSACTIONS [BIN_DIR]]
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <iostream>
#include <optional>
#include <pqxx/pqxx>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include "engine/child_process.h"
#include "engine/throwaway_cluster.h"

namespace {

using bitacora::engine::ChildProcess;
using bitacora::engine::ThrowawayCluster;
using Clock = std::chrono::steady_clock;

constexpr int kRounds = 5;
constexpr std::chrono::seconds kPatience{30};

void execute(const std::string& conninfo, const std::string& sql) {
  pqxx::connection connection(conninfo);
  pqxx::nontransaction(connection).exec(sql);
}

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

// The pair's processes. The sender stays; without a receiver it has no walsender, so it takes no
// part in the other's turn.
class Pair {
 public:
  Pair(const Way& way, std::filesystem::path directory)
      : binary_(std::filesystem::read_symlink("/proc/self/exe").parent_path() / "bitacora"),
        directory_(std::move(directory)),
        standby_(way.standby),
        listen_(address()),
        sender_http_(address()),
        receiver_http_(address()),
        sender_({binary_, "sender", "--master", way.master, "--listen", listen_, "--state-dir",
                 directory_ / "sender", "--http", sender_http_}) {}
  ~Pair() {
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
  }

  void start_receiver() {
    receiver_.emplace(std::vector<std::string>{
        binary_, "receiver", "--sender", listen_, "--standby", standby_, "--data-dir",
        directory_ / "receiver", "--name", "bench", "--no-copy", "--http", receiver_http_});
  }
  void stop_receiver() {
    receiver_->signal(SIGTERM);
    receiver_->wait(kPatience);
  }

 private:
  static std::string address() {
    return fmt::format("127.0.0.1:{}", bitacora::engine::free_loopback_port().value());
  }

  std::string binary_;
  std::filesystem::path directory_;
  std::string standby_, listen_, sender_http_, receiver_http_;
  ChildProcess sender_;
  std::optional<ChildProcess> receiver_;
};

// One row through, however long the start takes.
void wait_until_replicating(Way& way) {
  pqxx::connection master(way.master);
  pqxx::connection standby(way.standby);
  one_transaction(master, standby, way.next_id++);
}

void run(int transactions, const std::string& bin_dir) {
  auto master = ThrowawayCluster::make("bench-master", {bin_dir, {}, {}}).value();
  auto standby = ThrowawayCluster::make("bench-standby", {bin_dir, {}, {}}).value();
  Way ours{"bitacora", master.conninfo("bitacora"), standby.conninfo("bitacora")};
  Way native{"builtin", master.conninfo("builtin"), standby.conninfo("builtin")};
  for (const auto* way : {&ours, &native}) make_databases(master, standby, *way);

  execute(native.master, "CREATE PUBLICATION p FOR ALL TABLES");
  execute(
      native.standby,
      fmt::format("CREATE SUBSCRIPTION s CONNECTION '{}' PUBLICATION p WITH (copy_data = false)",
                  native.master));
  Pair pair(ours, master.directory().string() + "-pair");
  while (pqxx::nontransaction(*std::make_unique<pqxx::connection>(ours.master))
             .exec("SELECT FROM pg_replication_slots WHERE database = 'bitacora'")
             .empty()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }

  for (int round = 0; round < kRounds; ++round) {
    wait_until_replicating(native);
    measure(native, transactions / kRounds);
    execute(native.standby, "ALTER SUBSCRIPTION s DISABLE");
    pair.start_receiver();
    wait_until_replicating(ours);
    measure(ours, transactions / kRounds);
    pair.stop_receiver();
    execute(native.standby, "ALTER SUBSCRIPTION s ENABLE");
  }
  print(ours);
  print(native);
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
