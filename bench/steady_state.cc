// The highest rate of pgbench's transactions with which the standby's lag stays under a second, for
// this pair and for a built-in subscription, found by bisection, step by step in turn, in one run.
//   build/release/steady_state [--seconds N] [--scale N] [--precision F] [--tries N]
//                              [SERVER]
#include <fmt/format.h>

#include <array>
#include <chrono>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "bench/builtin_subscription.h"
#include "bench/command.h"
#include "bench/cpu_meter.h"
#include "bench/databases.h"
#include "bench/lag_probe.h"
#include "bench/median.h"
#include "bench/pair.h"
#include "bench/patience.h"
#include "bench/quiet_cluster.h"
#include "bench/rate_search.h"
#include "bench/workload.h"
#include "tests/postgres/database.h"

namespace bitacora::bench {
namespace {

constexpr double kLagMax = 1;           // seconds
constexpr double kRateShareMin = 0.97;  // of the rate, that pgbench must have come to
constexpr std::chrono::minutes kPatience{30};
constexpr std::chrono::milliseconds kLookInterval{250};  // at the processes
constexpr std::array kRoles{"sender", "receiver", "walsender", "standby"};

struct Options {
  int seconds = 60;
  int scale = 10;
  double precision = 0.05;
  int tries = 2;
  std::string server;
};

Workload named(std::string name, int scale) {
  auto workload = tpcb(0, scale);
  workload.name = std::move(name);
  return workload;
}

// To the end; transactions per second. 0: as fast as it goes.
double run_load(const std::string& master, const Options& options, double rate,
                const std::function<void()>& meanwhile) {
  std::vector<std::string> arguments{"--client=8", "--jobs=2", "--no-vacuum", "--protocol=prepared",
                                     fmt::format("--time={}", options.seconds)};
  if (rate > 0) arguments.push_back(fmt::format("--rate={:.1f}", rate));
  arguments.push_back(as_observer(master));  // its sessions are nobody's cost
  return transactions_per_second(
      pgbench(std::move(arguments), /*synchronous_commit=*/false, meanwhile));
}

// What follows a database of its own, from one turn to the next.
class Follower {
 public:
  Follower(const Servers& servers, Workload workload)
      : workload_(std::move(workload)), databases_(servers, workload_, {""}) {}
  virtual ~Follower() = default;

  virtual void follow() = 0;
  virtual void leave() = 0;
  virtual void throw_if_failed() = 0;
  virtual void watch(CpuMeter& meter) = 0;

  const std::string& name() const { return workload_.name; }
  const Databases& databases() const { return databases_; }

 private:
  const Workload workload_;
  Databases databases_;
};

class OurFollower : public Follower {
 public:
  OurFollower(const Servers& servers, int scale)
      : Follower(servers, named("bitacora", scale)),
        directory_(servers.master.directory().string() + "-pair"),
        sender_(databases().master(), name(), directory_.path() / "sender") {}

  void follow() override {
    receiver_.emplace(
        sender_, ReceiverIdentity{name(), databases().standby(""), directory_.path() / "receiver"});
  }
  void leave() override {
    receiver_->stop();
    receiver_.reset();
  }
  void throw_if_failed() override {
    sender_.throw_if_ended();
    receiver_->throw_if_ended();
  }
  void watch(CpuMeter& meter) override {
    meter.watch("sender", [this] { return std::vector<pid_t>{sender_.pid()}; });
    meter.watch("receiver", [this] { return std::vector<pid_t>{receiver_->pid()}; });
  }

 private:
  WorkingDirectory directory_;
  Sender sender_;
  std::optional<Receiver> receiver_;
};

class BuiltinFollower : public Follower {
 public:
  BuiltinFollower(const Servers& servers, int scale)
      : Follower(servers, named("builtin", scale)),
        subscription_(databases().master(), databases().standby(""), name()) {
    subscription_.disable();
  }

  void follow() override { subscription_.enable(); }
  void leave() override { subscription_.disable(); }
  void throw_if_failed() override { subscription_.throw_if_failed(); }
  void watch(CpuMeter&) override {}

 private:
  BuiltinSubscription subscription_;
};

struct Step {
  double rate = 0;
  double transactions_per_second = 0;  // what pgbench came to
  double lag = 0;                      // seconds, the greatest
  double lag_median = 0;
  CpuSeconds cpu = {};

  bool loaded() const { return transactions_per_second >= rate * kRateShareMin; }
  bool kept() const { return loaded() && lag < kLagMax; }
};

std::string line(const std::string& name, const Step& step) {
  const char* verdict = step.kept()     ? "kept"
                        : step.loaded() ? "lost: the lag"
                                        : "lost: the master does not come to it";
  return fmt::format("  {:<10}{:>9.0f}/s{:>9.0f}/s   lag {:>7.3f} s, median {:.3f} s   {}\n", name,
                     step.rate, step.transactions_per_second, step.lag, step.lag_median, verdict);
}

class Contest {
 public:
  Contest(const Servers& servers, const Options& options, Follower& follower, double ceiling)
      : options_(options),
        follower_(follower),
        search_(ceiling, options.precision),
        master_backends_(find_backends(servers.master.conninfo(), follower.name())),
        standby_backends_(find_backends(servers.standby.conninfo(), follower.name())) {}

  // False when there is none left.
  bool take_step() {
    const auto rate = search_.next();
    if (!rate) return false;
    follower_.follow();
    LagProbe(master(), standby()).finish(kPatience);  // what came while it was away
    follower_.databases().settle();
    auto step = measure(*rate);
    follower_.leave();
    std::cout << line(follower_.name(), step) << std::flush;
    tries_ = step.kept() ? 0 : tries_ + 1;
    if (step.kept() || tries_ == options_.tries) {
      search_.on_step(*rate, step.kept());
      tries_ = 0;
    }
    if (step.kept()) best_ = std::move(step);
    return true;
  }

  const Step& best() const { return best_; }
  const std::string& name() const { return follower_.name(); }

 private:
  std::string master() const { return follower_.databases().master(); }
  std::string standby() const { return follower_.databases().standby(""); }

  Step measure(double rate) {
    CpuMeter meter;
    follower_.watch(meter);
    meter.watch("walsender", master_backends_);
    meter.watch("standby", standby_backends_);
    meter.begin();
    LagProbe probe(master(), standby());
    const auto look_at_processes = seldom(
        [&] {
          follower_.throw_if_failed();
          meter.sample();
        },
        kLookInterval);
    Step step{rate};
    step.transactions_per_second = run_load(master(), options_, rate, [&] {
      probe.look();
      look_at_processes();
    });
    probe.finish(kPatience);
    meter.sample();
    step.lag = percentile(probe.seconds(), 1);
    step.lag_median = median(probe.seconds());
    step.cpu = meter.seconds();
    return step;
  }

  const Options& options_;
  Follower& follower_;
  RateSearch search_;
  FindPids master_backends_;
  FindPids standby_backends_;
  int tries_ = 0;  // of the present rate, lost
  Step best_;
};

void print_result(const std::vector<Contest>& contests, int seconds) {
  std::cout << fmt::format(
      "\n  {:<10}{:>15}{:>9}   CPU seconds per 1,000 transactions\n"
      "  {:<10}{:>15}{:>9}",
      "", "highest kept,", "lag,", "", "transactions/s", "s");
  for (const char* role : kRoles) std::cout << fmt::format("{:>11}", role);
  std::cout << fmt::format("{:>11}\n", "all");
  for (const auto& contest : contests) {
    const auto& best = contest.best();
    if (best.rate == 0) {
      std::cout << fmt::format("  {:<10}{:>15}\n", contest.name(), "none");
      continue;
    }
    std::cout << fmt::format("  {:<10}{:>15.0f}{:>9.3f}", contest.name(),
                             best.transactions_per_second, best.lag);
    const double thousands = best.transactions_per_second * seconds / 1000;
    double all = 0;
    for (const char* role : kRoles) {
      const auto found = best.cpu.find(role);
      std::cout << (found == best.cpu.end() ? fmt::format("{:>11}", "-")
                                            : fmt::format("{:>11.3f}", found->second / thousands));
      if (found != best.cpu.end()) all += found->second / thousands;
    }
    std::cout << fmt::format("{:>11.3f}\n", all);
  }
}

double master_alone(const engine::ThrowawayCluster& master, const Options& options) {
  const auto workload = named("alone", options.scale);
  const auto database = harness::fresh_database(master, workload.name);
  set_up(workload, database);
  return run_load(database, options, 0, [] {});
}

void run(const Options& options) {
  auto master = quiet_cluster("bench-master", options.server);
  auto standby = quiet_cluster("bench-standby", options.server);
  const double ceiling = master_alone(master, options);
  std::cout << fmt::format(
                   "PostgreSQL {}, {} cores; pgbench, scale {}, 8 clients, asynchronous commit, "
                   "steps of {} s; the master alone: {:.0f} transactions/s\n",
                   harness::query_value(master.conninfo(), "SHOW server_version"),
                   std::thread::hardware_concurrency(), options.scale, options.seconds, ceiling)
            << std::flush;
  const Servers servers{master, standby};
  OurFollower ours(servers, options.scale);
  BuiltinFollower builtin(servers, options.scale);
  std::vector<Contest> contests;
  for (Follower* follower : std::initializer_list<Follower*>{&ours, &builtin})
    contests.emplace_back(servers, options, *follower, ceiling);
  for (bool any = true; any;) {
    any = false;
    for (auto& contest : contests) any = contest.take_step() || any;
  }
  for (const Follower* follower : std::initializer_list<const Follower*>{&ours, &builtin})
    follower->databases().compare();
  print_result(contests, options.seconds);
}

}  // namespace
}  // namespace bitacora::bench

int main(int argc, char** argv) {
  bitacora::bench::Options options;
  CLI::App app{"The highest rate with which the standby stays less than a second behind",
               "steady_state"};
  bitacora::bench::add_server(app, options.server);
  app.add_option("--seconds", options.seconds, "of each step")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--scale", options.scale, "pgbench's")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--precision", options.precision, "a share of the rate of the master alone")
      ->check(CLI::Range(0.001, 0.5))
      ->capture_default_str();
  app.add_option("--tries", options.tries,
                 "a rate is lost when so many steps are: others use the machine")
      ->check(CLI::Range(1, 10))
      ->capture_default_str();
  return bitacora::bench::run_command(app, argc, argv, [&] { bitacora::bench::run(options); });
}
