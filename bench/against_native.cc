// This pair beside a built-in subscription: the same servers, the same backlog, in turn, in one
// run.
//   build/release/against_native [--scale F] [--workloads a,b] [--rounds N] [--json FILE]
//                                [--svg FILE] [SERVER]
// SERVER is a BIN_DIR with initdb and postgres, or a major version as the tests find them.
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include "bench/command.h"
#include "bench/quiet_cluster.h"
#include "bench/race.h"
#include "bench/report.h"
#include "bench/workload.h"
#include "tests/postgres/database.h"

namespace bitacora::bench {
namespace {

struct Options {
  double scale = 1;
  int rounds = 3;
  std::vector<std::string> workloads;
  std::string server;
  std::string json;
  std::string svg;
};

void write_file(const std::string& path, const std::string& text) {
  if (path.empty()) return;
  std::ofstream file(path);
  file << text;
  file.close();
  if (!file) throw std::runtime_error("cannot write " + path);
}

void run(const Options& options) {
  const auto wanted = chosen(workloads(options.scale, options.rounds), options.workloads);
  auto master = quiet_cluster("bench-master", options.server);
  auto standby = quiet_cluster("bench-standby", options.server);
  const auto version = harness::query_value(master.conninfo(), "SHOW server_version");
  const auto conditions =
      fmt::format("PostgreSQL {}, {} cores, scale {}, medians of {} rounds", version,
                  std::thread::hardware_concurrency(), options.scale, options.rounds);
  std::cout << conditions << "\n" << std::flush;
  std::vector<Figures> all;
  for (const auto& workload : wanted) {
    all.push_back(race({master, standby}, workload, options.rounds));
    std::cout << "\n" << table(all.back()) << std::flush;
    // As far as it came: a run of all of them takes long.
    const nlohmann::ordered_json document{{"server_version", version},
                                          {"cores", std::thread::hardware_concurrency()},
                                          {"scale", options.scale},
                                          {"rounds", options.rounds},
                                          {"workloads", as_json(all)}};
    write_file(options.json, document.dump(2) + "\n");
    write_file(options.svg, as_svg(all, conditions));
  }
}

}  // namespace
}  // namespace bitacora::bench

int main(int argc, char** argv) {
  bitacora::bench::Options options;
  CLI::App app{"Bitácora beside a built-in subscription, on the same backlogs", "against_native"};
  bitacora::bench::add_server(app, options.server);
  bitacora::bench::add_scale(app, options.scale);
  bitacora::bench::add_rounds(app, options.rounds);
  bitacora::bench::add_workloads(app, options.workloads);
  app.add_option("--json", options.json, "FILE for every round's values");
  app.add_option("--svg", options.svg, "FILE for a picture");
  return bitacora::bench::run_command(app, argc, argv, [&] { bitacora::bench::run(options); });
}
