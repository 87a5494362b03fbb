// The first copy of one large table, and of many small ones, to an empty standby: by this pair, by
// the initial sync of a built-in subscription, and by pg_dump and pg_restore, in turn, in one run.
//   build/release/copy_bench [--rows N] [--tables N] [--rounds N] [--subjects a,b] [--ways a,b]
//                            [--copy-sessions N] [SERVER]
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <map>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "bench/command.h"
#include "bench/copy_contents.h"
#include "bench/databases.h"
#include "bench/first_copy.h"
#include "bench/median.h"
#include "bench/quiet_cluster.h"
#include "tests/postgres/database.h"

namespace bitacora::bench {
namespace {

struct Options {
  std::int64_t rows = 10'000'000;
  int tables = 200;
  int rounds = 3;
  std::vector<std::string> subjects;
  std::vector<std::string> ways;
  unsigned copy_sessions = 0;
  std::string server;
};

const std::vector<std::pair<std::string, CopyWay>> kWays{
    {"bitacora", CopyWay::kOurs},
    {"bitacora-into-tables", CopyWay::kOursIntoTables},
    {"built-in", CopyWay::kBuiltin},
    {"pg_dump", CopyWay::kDump},
    {"pg_dump-Z0", CopyWay::kDumpUncompressed}};
constexpr std::array kRoles{"reading", "writing", "master", "standby"};

using Turns = std::map<std::string, std::vector<CopyTurn>>;

template <class Value>
double median_of(const std::vector<CopyTurn>& turns, const Value& value) {
  std::vector<double> values;
  for (const auto& turn : turns) values.push_back(value(turn));
  return median(std::move(values));
}

double seconds_of(const std::vector<CopyTurn>& turns) {
  return median_of(turns, [](const CopyTurn& turn) { return turn.seconds; });
}

// The most of all rounds.
double peak_mebibytes(const std::vector<CopyTurn>& turns, std::uint64_t CopyTurn::*bytes) {
  std::uint64_t peak = 0;
  for (const auto& turn : turns) peak = std::max(peak, turn.*bytes);
  return static_cast<double>(peak) / (1 << 20);
}

bool is_ours(const std::string& way) { return way.starts_with("bitacora"); }

std::string line(const std::string& way, const std::vector<CopyTurn>& turns) {
  auto text = fmt::format("  {:<21}{:>9.3f}", way, seconds_of(turns));
  double all = 0;
  for (const char* role : kRoles) {
    if (!turns.front().cpu.contains(role)) {
      text += fmt::format("{:>9}", "-");
      continue;
    }
    const double cpu = median_of(turns, [&](const CopyTurn& turn) { return turn.cpu.at(role); });
    text += fmt::format("{:>9.2f}", cpu);
    all += cpu;
  }
  text += fmt::format("{:>9.2f}", all);
  if (is_ours(way)) {
    text += fmt::format("{:>11.0f}{:>11.0f}", peak_mebibytes(turns, &CopyTurn::sender_peak_bytes),
                        peak_mebibytes(turns, &CopyTurn::receiver_peak_bytes));
  } else if (turns.front().read_seconds) {
    const auto reading = [](const CopyTurn& turn) { return *turn.read_seconds; };
    text += fmt::format("  ({:.3f} s pg_dump)", median_of(turns, reading));
  }
  std::vector<std::string> rounds;
  for (const auto& turn : turns) rounds.push_back(fmt::format("{:.2f}", turn.seconds));
  return fmt::format("{:<99}  {}\n", text, fmt::join(rounds, " "));
}

std::string table(const Turns& turns) {
  auto text = fmt::format("  {:<21}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}{:>11}{:>11}  {}\n", "", "seconds",
                          "CPU s:", "", "", "", "", "peak MiB", "", "each round's");
  text += fmt::format("  {:<21}{:>9}", "", "");
  for (const char* role : kRoles) text += fmt::format("{:>9}", role);
  text += fmt::format("{:>9}{:>11}{:>11}  seconds\n", "all", "sender", "receiver");
  for (const auto& [way, figures] : turns) text += line(way, figures);
  return text;
}

// How many times as long the others take; of the forms of pg_dump the faster one.
std::string ratios(const Turns& turns) {
  std::string text;
  for (const auto& [ours, figures] : turns) {
    if (!is_ours(ours)) continue;
    std::map<std::string, std::pair<double, std::string>> best;  // by contestant
    for (const auto& [way, others] : turns) {
      if (is_ours(way)) continue;
      const std::pair took{seconds_of(others), way};
      const auto [found, added] = best.emplace(way.substr(0, way.find("-Z")), took);
      if (!added) found->second = std::min(found->second, took);
    }
    for (const auto& [contestant, took] : best) {
      text += fmt::format("  {} takes {:.2f} times as long as {}\n", took.second,
                          took.first / seconds_of(figures), ours);
    }
  }
  return text;
}

std::vector<std::string> possible_ways(const Options& options, bool has_pg_dump) {
  std::vector<std::string> ways;
  for (const auto& [name, way] : kWays) {
    if (needs_pg_dump(way) && !has_pg_dump) continue;
    const bool wanted = options.ways.empty() ? way != CopyWay::kOursIntoTables || !has_pg_dump
                                             : std::find(options.ways.begin(), options.ways.end(),
                                                         name) != options.ways.end();
    if (wanted) ways.push_back(name);
  }
  return ways;
}

CopyWay way_of(const std::string& name) {
  return std::find_if(kWays.begin(), kWays.end(),
                      [&](const auto& way) { return way.first == name; })
      ->second;
}

// The server's settings that decide how fast rows and indexes are written, alike on both.
std::string settings(const std::string& conninfo) {
  return harness::query_value(
      conninfo,
      "SELECT string_agg(format('%s %s', name, current_setting(name)), ', ' ORDER BY name) "
      "FROM pg_settings WHERE name IN ('shared_buffers', 'maintenance_work_mem', 'wal_level', "
      "'max_wal_size', 'fsync', 'synchronous_commit', 'max_parallel_maintenance_workers', "
      "'max_sync_workers_per_subscription', 'wal_compression', 'autovacuum')");
}

void print_head(const Servers& servers, const Options& options, bool has_pg_dump) {
  double load = 0;
  getloadavg(&load, 1);
  std::cout << fmt::format(
                   "PostgreSQL {}, {} cores, load {:.1f}; medians of {} rounds\nboth servers: {}\n",
                   harness::query_value(servers.master.conninfo(), "SHOW server_version"),
                   std::thread::hardware_concurrency(), load, options.rounds,
                   settings(servers.standby.conninfo()))
            << (has_pg_dump
                    ? "bitacora makes the tables (--create-schema), and analyzes them; so does "
                      "pg_restore, without; the built-in one finds them there with their indexes\n"
                    : "no pg_dump of this version: the tables are there beforehand with their "
                      "indexes, for all; bitacora analyzes them\n")
            << std::flush;
}

void run(const Options& options) {
  const auto contents =
      chosen({large_table(options.rows), small_tables(options.tables)}, options.subjects);
  auto master = quiet_cluster("bench-master", options.server);
  auto standby = quiet_cluster("bench-standby", options.server);
  const Servers servers{master, standby};
  const bool has_pg_dump = pg_dump_directory(master).has_value();
  print_head(servers, options, has_pg_dump);
  auto ways = possible_ways(options, has_pg_dump);
  for (const auto& content : contents) {
    const FirstCopy copy(servers, content, options.copy_sessions);
    std::cout << fmt::format("\n{}: {}, {}\n", content.name, content.title, copy.size())
              << std::flush;
    Turns turns;
    for (int round = 0; round < options.rounds; ++round) {
      for (const auto& way : ways) turns[way].push_back(copy.turn(way_of(way)));
      std::rotate(ways.begin(), ways.begin() + 1, ways.end());
    }
    std::cout << table(turns) << ratios(turns) << std::flush;
  }
}

}  // namespace
}  // namespace bitacora::bench

int main(int argc, char** argv) {
  bitacora::bench::Options options;
  CLI::App app{"The first copy to an empty standby, beside the server's own ways", "copy_bench"};
  bitacora::bench::add_server(app, options.server);
  bitacora::bench::add_rounds(app, options.rounds);
  app.add_option("--rows", options.rows, "of the large table")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--tables", options.tables, "small ones")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--subjects", options.subjects, "large,small; default: both")
      ->delimiter(',')
      ->allow_extra_args(false);
  std::vector<std::string> ways;
  for (const auto& way : bitacora::bench::kWays) ways.push_back(way.first);
  app.add_option(
         "--ways", options.ways,
         fmt::format("{}; default: all that the server's programs allow, without the second "
                     "unless it is the only one of ours",
                     fmt::join(ways, ",")))
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(CLI::IsMember(ways));
  app.add_option("--copy-sessions", options.copy_sessions, "the receiver's; default: its own");
  return bitacora::bench::run_command(app, argc, argv, [&] { bitacora::bench::run(options); });
}
