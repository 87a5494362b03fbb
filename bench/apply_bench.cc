// The apply path by itself: a recorded spool is replayed into a standby as often as wanted, each
// time from the same starting content. The content must be the same at every end.
//   build/release/apply_bench [--workloads a,b] [--scale F] [--runs N] [--apply-path a,b]
//                             [--workers 1,2] [--against-native] [--json FILE] [SERVER]
//   build/release/apply_bench --spool DIR --standby CONNINFO --name NAME [...]
#include <fstream>
#include <iostream>
#include <map>
#include <optional>
#include <pqxx/pqxx>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "apply/applier_options.h"
#include "bench/command.h"
#include "bench/database_copy.h"
#include "bench/quiet_cluster.h"
#include "bench/recording.h"
#include "bench/replay.h"
#include "bench/replay_report.h"
#include "bench/workload.h"
#include "tests/postgres/database.h"

namespace bitacora::bench {
namespace {

const std::map<std::string, apply::ApplyPath> kPaths{{"auto", apply::ApplyPath::kAuto},
                                                     {"exact", apply::ApplyPath::kExact},
                                                     {"fast", apply::ApplyPath::kFast}};

struct Options {
  std::vector<std::string> workloads;
  double scale = 1;
  int runs = 3;
  std::vector<std::string> paths{"auto"};
  std::vector<int> workers{1};
  std::optional<std::size_t> set_rows_min;
  bool against_native = false;
  std::string spool;
  std::string standby;
  std::string name;
  std::string json;
  std::string server;
};

// All ways, in turn: a disturbance of the machine falls on all of them.
class Bench {
 public:
  Bench(const Options& options, const Ground& ground, const Recording* recording)
      : options_(options), ground_(ground), recording_(recording), spool_(ground.data_dir) {
    figures_.workload = ground.workload.name;
    figures_.title = ground.workload.title;
    figures_.spool_bytes = spool_.spool().bytes();
    for (const auto& path : options.paths) {
      for (const int workers : options.workers) figures_.ways.push_back({path, workers});
    }
  }

  ReplayFigures run() {
    for (int run = 0; run < options_.runs; ++run) {
      for (auto& way : figures_.ways) way.runs.push_back(replay_once(way));
      if (options_.against_native) figures_.builtin.push_back(recording_->replay_by_builtin());
    }
    return std::move(figures_);
  }

 private:
  // Without a master the first run's content is what the others are compared with.
  Replayed replay_once(const ReplayWay& way) {
    const bool first = ground_.end.empty() && !first_;
    auto copy = std::make_unique<DatabaseCopy>(
        ground_.start, fmt::format("bitacora_replay{}", first ? "_first" : ""));
    auto replayed =
        replay(spool_.spool(), {copy->conninfo(), ground_.subscription, kPaths.at(way.apply_path),
                                way.workers, options_.set_rows_min});
    if (first) {
      first_ = std::move(copy);
    } else {
      compare_content(ground_.workload, first_ ? first_->conninfo() : ground_.end,
                      copy->conninfo());
    }
    return replayed;
  }

  const Options& options_;
  const Ground& ground_;
  const Recording* recording_;
  RecordedSpool spool_;
  std::unique_ptr<DatabaseCopy> first_;
  ReplayFigures figures_;
};

void write_json(const Options& options, const std::string& version,
                const std::vector<ReplayFigures>& all) {
  if (options.json.empty()) return;
  nlohmann::ordered_json document{{"server_version", version},
                                  {"cores", std::thread::hardware_concurrency()},
                                  {"scale", options.scale},
                                  {"runs", options.runs},
                                  {"workloads", nlohmann::json::array()}};
  for (const auto& figures : all) document["workloads"].push_back(as_json(figures));
  std::ofstream file(options.json);
  file << document.dump(2) << "\n";
  file.close();
  if (!file) throw std::runtime_error("cannot write " + options.json);
}

void run_workloads(const Options& options) {
  const auto wanted = chosen(workloads(options.scale, 1), options.workloads);
  auto master = quiet_cluster("bench-master", options.server);
  auto standby = quiet_cluster("bench-standby", options.server);
  const auto version = harness::query_value(standby.conninfo(), "SHOW server_version");
  std::cout << fmt::format("PostgreSQL {}, {} cores, scale {}, medians of {} runs\n", version,
                           std::thread::hardware_concurrency(), options.scale, options.runs)
            << std::flush;
  std::vector<ReplayFigures> all;
  for (const auto& workload : wanted) {
    const Recording recording({master, standby}, workload);
    all.push_back(Bench(options, recording.ground(), &recording).run());
    std::cout << "\n" << table(all.back()) << std::flush;
    write_json(options, version, all);  // as far as it came
  }
}

// Everything but our own.
std::vector<std::string> tables_of(const std::string& conninfo) {
  pqxx::connection connection(conninfo);
  std::vector<std::string> tables;
  for (const auto& row : pqxx::nontransaction(connection)
                             .exec("SELECT oid::regclass FROM pg_class WHERE relkind = 'r' AND "
                                   "relnamespace NOT IN (SELECT oid FROM pg_namespace WHERE "
                                   "nspname ~ '^pg_' OR nspname IN ('information_schema', "
                                   "'bitacora'))"))
    tables.push_back(row[0].as<std::string>());
  return tables;
}

void run_spool(const Options& options) {
  const Ground ground{
      options.standby,
      options.name,
      options.spool,
      {.name = "spool", .title = options.spool, .tables = tables_of(options.standby), .setup = {}},
      ""};
  const auto version = harness::query_value(options.standby, "SHOW server_version");
  const auto figures = Bench(options, ground, nullptr).run();
  std::cout << fmt::format("PostgreSQL {}, medians of {} runs\n\n", version, options.runs)
            << table(figures);
  write_json(options, version, {figures});
}

}  // namespace
}  // namespace bitacora::bench

int main(int argc, char** argv) {
  bitacora::bench::Options options;
  CLI::App app{"Replays recorded changes into a standby, as often as wanted", "apply_bench"};
  bitacora::bench::add_server(app, options.server);
  bitacora::bench::add_workloads(app, options.workloads);
  bitacora::bench::add_scale(app, options.scale);
  app.add_option("--runs", options.runs)->check(CLI::Range(1, 1000))->capture_default_str();
  app.add_option("--apply-path", options.paths, "auto,exact,fast: those to compare")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(CLI::IsMember(bitacora::bench::kPaths))
      ->capture_default_str();
  app.add_option("--workers", options.workers, "N,...: connections that apply, to compare")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(CLI::Range(1, bitacora::apply::kWorkersMax))
      ->capture_default_str();
  app.add_option("--set-rows-min", options.set_rows_min,
                 "from so many rows on the fast path writes a set");
  auto* native = app.add_flag("--against-native", options.against_native,
                              "the built-in subscription's rate on the same changes, too");
  auto* spool = app.add_option("--spool", options.spool,
                               "DIR: a recorded spool, the --data-dir of a receiver, copied");
  auto* standby = app.add_option("--standby", options.standby,
                                 "CONNINFO of the database it starts from, which is copied");
  auto* name = app.add_option("--name", options.name, "of the receiver that was recorded");
  spool->needs(standby)->needs(name)->excludes(native);
  standby->needs(spool);
  name->needs(spool);
  app.add_option("--json", options.json, "FILE for every run's values");
  return bitacora::bench::run_command(app, argc, argv, [&] {
    options.spool.empty() ? bitacora::bench::run_workloads(options)
                          : bitacora::bench::run_spool(options);
  });
}
