// How fast a backlog is read from a slot, and nothing done with it: by the catch-up reader and by
// the live reader, beside what the master needs to decode it and throw it away.
//   build/release/reader_bench [--scale F] [--workloads a,b] [--rounds N]
//                              [--range-bytes N] [SERVER]
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <iostream>
#include <map>
#include <pqxx/pqxx>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "base/log.h"
#include "bench/command.h"
#include "bench/counting_sink.h"
#include "bench/cpu_meter.h"
#include "bench/median.h"
#include "bench/pair.h"
#include "bench/patience.h"
#include "bench/quiet_cluster.h"
#include "bench/workload.h"
#include "tests/postgres/database.h"
#include "wal/catch_up_reader.h"
#include "wal/live_reader.h"
#include "wal/plugin_options.h"

namespace bitacora::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr const char* kSlot = "reader_bench";
constexpr const char* kPublication = "everything";
constexpr std::chrono::seconds kPatience{60};
constexpr std::chrono::milliseconds kLookInterval{100};  // at the processes

struct Options {
  double scale = 1;
  int rounds = 3;
  std::uint64_t range_bytes = wal::FetchOptions{}.range_bytes;
  std::vector<std::string> workloads;
  std::string server;
};

enum class Way { kPeek, kCatchUp, kLive };

struct WayName {
  Way way;
  const char* text;
};
constexpr std::array kWays{WayName{Way::kPeek, "peek, count(*)"},
                           WayName{Way::kCatchUp, "catch-up reader"},
                           WayName{Way::kLive, "live reader"}};

// Of one way, a value for each round.
struct Turns {
  std::vector<double> seconds;
  std::vector<double> master_cpu;
  std::vector<double> our_cpu;
};

// One workload's changes in one slot, which stays where it is.
class Backlog {
 public:
  Backlog(const engine::ThrowawayCluster& master, const Workload& workload,
          std::uint64_t range_bytes)
      : workload_(workload),
        range_bytes_(range_bytes),
        master_(harness::fresh_database(master, workload.name)),
        backends_(find_backends(master.conninfo(), workload.name)) {
    set_up(workload, master_);
    harness::execute(master_, "CREATE TABLE ending (id integer PRIMARY KEY)");
    harness::execute(master_, fmt::format("CREATE PUBLICATION {} FOR ALL TABLES", kPublication));
    harness::execute(master_, fmt::format("SELECT pg_create_logical_replication_slot('{}', "
                                          "'pgoutput')",
                                          kSlot));
    start_ = lsn("confirmed_flush_lsn FROM pg_replication_slots");
    const WorkingDirectory scripts(master.directory().string() + "-" + workload.name);
    run_round(workload, master_, 0, scripts.path());
    end_ = lsn("pg_current_wal_insert_lsn()");
    // A commit behind the end, for readers to come to.
    harness::execute(master_, "INSERT INTO ending VALUES (1)");
    harness::execute(master_, "CHECKPOINT");
  }
  Backlog(const Backlog&) = delete;
  Backlog& operator=(const Backlog&) = delete;
  ~Backlog() {
    try {
      harness::execute(master_, fmt::format("SELECT pg_drop_replication_slot('{}')", kSlot));
    } catch (const std::exception&) {  // the server is gone
    }
  }

  void take_turns(int round) {
    for (std::size_t i = 0; i < kWays.size(); ++i) {
      const auto way = kWays[(i + static_cast<std::size_t>(round)) % kWays.size()].way;
      CpuMeter meter;
      meter.watch("master", backends_);
      meter.watch("own", [] { return std::vector<pid_t>{getpid()}; });
      meter.begin();
      auto& turns = turns_[way];
      turns.seconds.push_back(way == Way::kPeek ? peek(meter) : read(way, meter));
      const auto cpu = meter.seconds();
      turns.master_cpu.push_back(cpu.at("master"));
      turns.our_cpu.push_back(cpu.at("own"));
      await_slot();
    }
  }

  void print() const {
    std::cout << fmt::format("{}: {}; {} messages, {:.1f} MB of WAL\n", workload_.name,
                             workload_.title, messages_,
                             static_cast<double>(bytes_between(start_, end_)) / 1e6);
    const double peek_seconds = median(turns_.at(Way::kPeek).seconds);
    for (const auto& [way, text] : kWays) {
      const auto& turns = turns_.at(way);
      const double seconds = median(turns.seconds);
      std::cout << fmt::format("  {:<18}{:>9.3f}{:>12.0f}{:>9.2f}{:>14.2f}{:>10.2f}\n", text,
                               seconds, static_cast<double>(messages_) / seconds,
                               peek_seconds / seconds, median(turns.master_cpu),
                               median(turns.our_cpu));
    }
    std::cout << std::flush;
  }

 private:
  MasterLsn lsn(const std::string& selected) const {
    return {parse_lsn(harness::query_value(master_, "SELECT " + selected)).value()};
  }

  // A walsender takes a moment to see that nobody listens.
  void await_slot() const {
    await(
        "the slot to be left alone",
        [&] {
          return harness::query_value(master_,
                                      "SELECT count(*) FROM pg_replication_slots "
                                      "WHERE active") == "0";
        },
        kPatience);
  }

  // The same that the readers ask pgoutput for.
  double peek(CpuMeter& meter) {
    const auto begin = Clock::now();
    pqxx::connection connection(master_);
    std::string arguments;
    for (const auto& [name, value] :
         wal::plugin_options(connection.server_version(), kPublication, true))
      arguments += fmt::format(", {}, {}", connection.quote(name), connection.quote(value));
    messages_ = pqxx::nontransaction(connection)
                    .exec1(fmt::format("SELECT count(*) FROM pg_logical_slot_peek_binary_changes("
                                       "'{}', NULL, NULL{})",
                                       kSlot, arguments))[0]
                    .as<std::uint64_t>();
    meter.sample();
    return std::chrono::duration<double>(Clock::now() - begin).count();
  }

  template <class ReaderOptions>
  ReaderOptions reader_options() const {
    ReaderOptions options;
    options.conninfo = master_;
    options.slot = kSlot;
    options.publication = kPublication;
    options.application_name = kSlot;
    return options;
  }

  double read(Way way, CpuMeter& meter) const {
    const auto begin = Clock::now();
    double seconds = 0;
    CountingSink sink(end_, seldom([&] { meter.sample(); }, kLookInterval), [&] {
      seconds = std::chrono::duration<double>(Clock::now() - begin).count();
      meter.sample();
    });
    const auto ended = way == Way::kCatchUp ? catch_up(sink) : stream(sink);
    if (!ended.ok()) throw std::runtime_error(one_line(ended.error()));
    if (!sink.ended()) throw std::runtime_error("a reader ended before the backlog did");
    return seconds;
  }

  // To the end: in the product the live reader takes what is near.
  Result<void> catch_up(CountingSink& sink) const {
    auto options = reader_options<wal::CatchUpOptions>();
    options.fetch.near_bytes = 1;
    options.fetch.range_bytes = range_bytes_;
    RETURN_IF_ERROR(wal::CatchUpReader(options, sink).run(start_, {}));
    return {};
  }

  Result<void> stream(CountingSink& sink) const {
    wal::WakeUp wake_up;
    return wal::LiveReader(reader_options<wal::LiveReaderOptions>(), sink, wake_up).run(start_, {});
  }

  const Workload& workload_;
  const std::uint64_t range_bytes_;  // see FetchOptions
  const std::string master_;
  FindPids backends_;
  MasterLsn start_;
  MasterLsn end_;
  std::uint64_t messages_ = 0;
  std::map<Way, Turns> turns_;
};

void run(const Options& options) {
  const auto wanted = chosen(workloads(options.scale, 1), options.workloads);
  spdlog::set_level(spdlog::level::warn);
  const auto master = quiet_cluster("bench-master", options.server);
  std::cout << fmt::format("PostgreSQL {}, {} cores, scale {}, medians of {} rounds\n",
                           harness::query_value(master.conninfo(), "SHOW server_version"),
                           std::thread::hardware_concurrency(), options.scale, options.rounds)
            << fmt::format("  {:<18}{:>9}{:>12}{:>9}{:>14}{:>10}\n", "", "seconds", "messages/s",
                           "x peek", "CPU s, master", "ours");
  for (const auto& workload : wanted) {
    Backlog backlog(master, workload, options.range_bytes);
    for (int round = 0; round < options.rounds; ++round) backlog.take_turns(round);
    backlog.print();
  }
}

}  // namespace
}  // namespace bitacora::bench

int main(int argc, char** argv) {
  bitacora::bench::Options options;
  CLI::App app{"Reads a slot's backlog in every way, and does nothing with it", "reader_bench"};
  bitacora::bench::add_server(app, options.server);
  bitacora::bench::add_scale(app, options.scale);
  bitacora::bench::add_rounds(app, options.rounds);
  bitacora::bench::add_workloads(app, options.workloads);
  app.add_option("--range-bytes", options.range_bytes,
                 "of WAL in the catch-up reader's first range")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  return bitacora::bench::run_command(app, argc, argv, [&] { bitacora::bench::run(options); });
}
