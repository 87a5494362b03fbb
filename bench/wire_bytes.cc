// The bytes between sender and receiver beside those between walsender and apply worker of a
// built-in subscription, for the same changes, counted by relays at the sockets.
//   build/release/wire_bytes [--scale F] [--workloads a,b] [--rate N] [SERVER]
#include <fmt/format.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <iostream>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "bench/builtin_subscription.h"
#include "bench/command.h"
#include "bench/databases.h"
#include "bench/pair.h"
#include "bench/patience.h"
#include "bench/quiet_cluster.h"
#include "bench/relay.h"
#include "bench/workload.h"
#include "tests/postgres/database.h"

namespace bitacora::bench {
namespace {

constexpr std::chrono::minutes kPatience{30};
constexpr std::chrono::seconds kStartPatience{60};
constexpr std::chrono::milliseconds kLookInterval{250};  // at the processes
constexpr const char* kBuiltin = "_builtin";             // the follower's suffix

struct Options {
  double scale = 1;
  double rate = 0;
  std::vector<std::string> workloads;
  std::string server;
};

constexpr const char* kLine =
    "{:<9} {:<14}{:>10}{:>9}{:>9}{:>9}{:>9}{:>9}{:>7}{:>11}{:>12}{:>9}{:>9}\n";

// The same changes over both wires.
struct Carried {
  std::uint64_t transactions = 0;
  std::uint64_t rows = 0;
  Traffic ours;
  Traffic builtin;
};

class WireBytes {
 public:
  WireBytes(const Servers& servers, const Workload& workload)
      : workload_(workload),
        databases_(servers, workload, {"", kBuiltin}),
        directory_(servers.master.directory().string() + "-" + workload.name),
        sender_(databases_.master(), workload.name, directory_.path() / "sender"),
        our_relay_(sender_.port()),
        builtin_relay_(servers.master.port()),
        builtin_(databases_.master(), databases_.standby(kBuiltin), workload.name + kBuiltin) {
    builtin_.disable();
    builtin_.connect_by(fmt::format("host=127.0.0.1 port={} dbname={} user=postgres",
                                    builtin_relay_.port(), workload.name));
  }

  void run() {
    connect();
    print("as it happens", while_it_happens());
    disconnect();
    print("backlog", backlog());
    disconnect();
    databases_.compare();
  }

 private:
  void connect() {
    start();
    await(
        "the receiver's first connection", [&] { return receiver_->state().applied.valid(); },
        kStartPatience);
    databases_.mark();
    await_both();
  }

  void start() {
    receiver_.emplace(
        sender_,
        ReceiverIdentity{workload_.name, databases_.standby(""), directory_.path() / "receiver"},
        our_relay_.address());
    builtin_.enable();
    builtin_.await_streaming();
  }

  void disconnect() {
    receiver_->stop();
    receiver_.reset();
    builtin_.disable();
  }

  void await_both() {
    for (const auto* suffix : {"", kBuiltin}) {
      databases_.await_mark(suffix,
                            seldom(
                                [&] {
                                  receiver_->throw_if_ended();
                                  sender_.throw_if_ended();
                                  builtin_.throw_if_failed();
                                },
                                kLookInterval),
                            kPatience);
    }
  }

  // The receiver's page shows what the standby shows, a moment later.
  ReceiverState applied(MasterLsn marked) {
    ReceiverState state;
    await(
        "the receiver's page to show the end",
        [&] {
          state = receiver_->state();
          return state.applied >= marked;
        },
        kStartPatience);
    return state;
  }

  // What crosses both wires until both followers show what `work` has done. The mark is in it.
  Carried carried(const ReceiverState& before, const std::function<void()>& work) {
    const auto ours = our_relay_.traffic();
    const auto builtin = builtin_relay_.traffic();
    work();
    await_both();
    const auto after = applied(marked_);
    return {after.transactions - before.transactions, after.rows - before.rows,
            our_relay_.traffic() - ours, builtin_relay_.traffic() - builtin};
  }

  Carried while_it_happens() {
    return carried(receiver_->state(), [&] { change(workload_, 0); });
  }

  // A new receiver counts from 0.
  Carried backlog() {
    auto at_once = workload_;
    at_once.rate = 0;
    change(at_once, 1);
    return carried({}, [&] { start(); });
  }

  void change(const Workload& workload, int round) {
    run_round(workload, databases_.master(), round, directory_.path());
    marked_ = databases_.mark();
  }

  void print(const char* when, const Carried& carried) const {
    const auto megabytes = [](std::uint64_t bytes) { return static_cast<double>(bytes) / 1e6; };
    const auto per = [](const Traffic& traffic, std::uint64_t count) {
      return static_cast<double>(traffic.sum()) / static_cast<double>(count);
    };
    const auto& ours = carried.ours;
    const auto& builtin = carried.builtin;
    std::cout << fmt::format(kLine, workload_.name, when, carried.transactions, carried.rows,
                             fmt::format("{:.3f}", megabytes(ours.to_client)),
                             fmt::format("{:.3f}", megabytes(ours.to_server)),
                             fmt::format("{:.3f}", megabytes(builtin.to_client)),
                             fmt::format("{:.3f}", megabytes(builtin.to_server)),
                             fmt::format("{:.1f}", per(builtin, ours.sum())),
                             fmt::format("{:.1f}", per(ours, carried.transactions)),
                             fmt::format("{:.1f}", per(builtin, carried.transactions)),
                             fmt::format("{:.1f}", per(ours, carried.rows)),
                             fmt::format("{:.1f}", per(builtin, carried.rows)))
              << std::flush;
  }

  const Workload& workload_;
  Databases databases_;
  WorkingDirectory directory_;
  Sender sender_;
  Relay our_relay_;
  Relay builtin_relay_;
  BuiltinSubscription builtin_;
  std::optional<Receiver> receiver_;
  MasterLsn marked_;
};

void print_head(const std::string& version, const Options& options) {
  std::cout << fmt::format("PostgreSQL {}, {} cores, scale {}, {}; MB, to the standby and back\n",
                           version, std::thread::hardware_concurrency(), options.scale,
                           options.rate > 0 ? fmt::format("{} transactions/s", options.rate)
                                            : "as fast as it goes")
            << fmt::format(kLine, "", "", "", "", "bitacora", "", "built-in", "", "", "bytes/",
                           "transaction", "bytes/", "row")
            << fmt::format(kLine, "", "", "transact.", "rows", "to", "back", "to", "back", "times",
                           "bitacora", "built-in", "bitacora", "built-in");
}

void run(const Options& options) {
  auto wanted = chosen(workloads(options.scale, 2), options.workloads);
  auto master = quiet_cluster("bench-master", options.server);
  auto standby = quiet_cluster("bench-standby", options.server);
  print_head(harness::query_value(master.conninfo(), "SHOW server_version"), options);
  for (auto& workload : wanted) {
    workload.rate = options.rate;
    WireBytes({master, standby}, workload).run();
  }
}

}  // namespace
}  // namespace bitacora::bench

int main(int argc, char** argv) {
  bitacora::bench::Options options;
  CLI::App app{"The bytes between the hosts, beside those of a built-in subscription",
               "wire_bytes"};
  bitacora::bench::add_server(app, options.server);
  bitacora::bench::add_scale(app, options.scale);
  bitacora::bench::add_workloads(app, options.workloads);
  app.add_option("--rate", options.rate,
                 "transactions per second of those that pgbench does; 0: as fast as it goes")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  return bitacora::bench::run_command(app, argc, argv, [&] { bitacora::bench::run(options); });
}
