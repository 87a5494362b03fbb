// What the spool's fsync costs: pgbench on the master, with a receiver that syncs its spool and
// with one that does not, in turn, in one run.
//   build/release/spool_sync [--seconds N] [--rounds N] [--scale N] [SERVER]
#include <chrono>
#include <iostream>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "bench/command.h"
#include "bench/cpu_meter.h"
#include "bench/median.h"
#include "bench/pair.h"
#include "bench/patience.h"
#include "bench/quiet_cluster.h"
#include "bench/workload.h"
#include "tests/postgres/database.h"

namespace bitacora::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr const char* kName = "spool_sync";
constexpr std::chrono::minutes kPatience{30};

struct Options {
  int seconds = 20;
  int rounds = 3;
  int scale = 10;
  std::string server;
};

struct Way {
  std::vector<std::string> receiver_arguments;
  std::vector<double> transactions_per_second = {};
  std::vector<double> applied_after = {};  // seconds from the load's end
  std::vector<double> receiver_cpu = {};   // microseconds per transaction
};

class SpoolSync {
 public:
  explicit SpoolSync(const Options& options)
      : options_(options),
        workload_(tpcb(0, options.scale)),
        master_(quiet_cluster("bench-master", options.server)),
        standby_(quiet_cluster("bench-standby", options.server)),
        directory_(master_.directory().string() + "-pair"),
        sender_(database(master_), kName, directory_.path() / "sender"),
        identity_{kName, database(standby_), directory_.path() / "receiver"} {}

  void run() {
    for (int round = 0; round < options_.rounds; ++round) {
      take_turn(round % 2 == 0 ? synced_ : unsynced_);
      take_turn(round % 2 == 0 ? unsynced_ : synced_);
    }
    compare_content(workload_, master_.conninfo(kName), standby_.conninfo(kName));
    print();
  }

 private:
  // Makes the database with its tables; its conninfo.
  std::string database(const engine::ThrowawayCluster& cluster) {
    auto conninfo = harness::fresh_database(cluster, kName);
    set_up(workload_, conninfo);
    return conninfo;
  }

  void take_turn(Way& way) {
    Receiver receiver(sender_, identity_, way.receiver_arguments);
    await_applied(receiver);
    for (const auto* cluster : {&master_, &standby_}) {
      harness::execute(cluster->conninfo(kName), "VACUUM ANALYZE");
      harness::execute(cluster->conninfo(), "CHECKPOINT");
    }
    const double cpu_before = cpu_seconds(receiver.pid());
    const auto output =
        pgbench({"--client=8", "--jobs=2", "--no-vacuum", "--protocol=prepared",
                 fmt::format("--time={}", options_.seconds), master_.conninfo(kName)},
                /*synchronous_commit=*/true);
    const auto ended = Clock::now();
    await_applied(receiver);
    const double tps = transactions_per_second(output);
    way.transactions_per_second.push_back(tps);
    way.applied_after.push_back(std::chrono::duration<double>(Clock::now() - ended).count());
    way.receiver_cpu.push_back((cpu_seconds(receiver.pid()) - cpu_before) * 1e6 /
                               (tps * options_.seconds));
    receiver.stop();
  }

  void await_applied(Receiver& receiver) {
    const auto written = MasterLsn{
        parse_lsn(harness::query_value(master_.conninfo(), "SELECT pg_current_wal_lsn()")).value()};
    await(
        "the standby to show everything",
        [&] {
          sender_.throw_if_ended();
          return receiver.state().applied >= written;
        },
        kPatience, std::chrono::milliseconds(10));
  }

  void print() const {
    const auto line = [](const char* what, const std::vector<double>& with,
                         const std::vector<double>& without, int digits) {
      const double a = median(with);
      const double b = median(without);
      std::cout << fmt::format("{:<44}{:>12.{}f}{:>12.{}f}{:>+11.1f} %\n", what, a, digits, b,
                               digits, (a / b - 1) * 100);
    };
    std::cout << fmt::format(
        "pgbench, scale {}, 8 clients, {} s; PostgreSQL {}, {} cores, medians of {} rounds\n",
        options_.scale, options_.seconds,
        harness::query_value(master_.conninfo(), "SHOW server_version"),
        std::thread::hardware_concurrency(), options_.rounds);
    std::cout << fmt::format("{:<44}{:>12}{:>12}{:>13}\n", "", "fsync", "no fsync", "difference");
    line("transactions/s on the master", synced_.transactions_per_second,
         unsynced_.transactions_per_second, 0);
    line("standby has all after the load's end, s", synced_.applied_after, unsynced_.applied_after,
         3);
    line("receiver's CPU, us per transaction", synced_.receiver_cpu, unsynced_.receiver_cpu, 1);
  }

  const Options options_;
  const Workload workload_;
  engine::ThrowawayCluster master_;
  engine::ThrowawayCluster standby_;
  WorkingDirectory directory_;
  Sender sender_;
  const ReceiverIdentity identity_;
  Way synced_{{}};
  Way unsynced_{{"--no-spool-sync"}};
};

}  // namespace
}  // namespace bitacora::bench

int main(int argc, char** argv) {
  bitacora::bench::Options options;
  CLI::App app{"pgbench on the master, with and without fsync of the receiver's spool",
               "spool_sync"};
  bitacora::bench::add_server(app, options.server);
  app.add_option("--seconds", options.seconds, "of each turn")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  bitacora::bench::add_rounds(app, options.rounds);
  app.add_option("--scale", options.scale, "pgbench's")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  return bitacora::bench::run_command(app, argc, argv,
                                      [&] { bitacora::bench::SpoolSync(options).run(); });
}
