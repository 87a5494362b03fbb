// apply_bench at a tiny scale: that it measures what it says, and notices what it must not measure.
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bench/quiet_cluster.h"
#include "bench/recording.h"
#include "bench/workload.h"
#include "engine/child_process.h"
#include "tests/postgres/database.h"

namespace bitacora::bench {
namespace {

engine::Finished apply_bench(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), APPLY_BENCH);
  return engine::run(std::move(arguments), std::chrono::minutes(2));
}

class ApplyBench : public testing::Test {
 protected:
  ApplyBench() {
    auto name = (std::filesystem::temp_directory_path() / "bitacora-apply-bench-XXXXXX").string();
    directory_ = mkdtemp(name.data());
  }
  ~ApplyBench() override { std::filesystem::remove_all(directory_); }

  std::string json_file() const { return directory_ / "figures.json"; }
  nlohmann::json figures() const { return nlohmann::json::parse(std::ifstream(json_file())); }

  std::filesystem::path directory_;
};

void expect_measured(const nlohmann::json& way, std::size_t runs) {
  for (const char* field : {"seconds", "rows_per_second", "transactions_per_second",
                            "megabytes_per_second", "peak_memory_bytes"})
    EXPECT_GT(way.at(field).get<double>(), 0) << field;
  for (const char* field : {"receiver_cpu_seconds_per_million", "standby_cpu_seconds_per_million"})
    EXPECT_GE(way.at(field).get<double>(), 0) << field;
  const auto& latency = way.at("group_latency_ms");
  EXPECT_GE(latency.at("count").get<std::size_t>(), runs);
  EXPECT_LE(latency.at("p50"), latency.at("p90"));
  EXPECT_LE(latency.at("p90"), latency.at("p99"));
  EXPECT_LE(latency.at("p99"), latency.at("max"));
  EXPECT_EQ(way.at("runs").size(), runs);
}

TEST_F(ApplyBench, MeasuresEveryWayAndTheBuiltinOne) {
  const auto finished =
      apply_bench({"--scale", "0.001", "--runs", "2", "--workloads", "mixed", "--apply-path",
                   "exact,fast", "--against-native", "--json", json_file()});
  ASSERT_EQ(finished.exit_code, 0) << finished.output << finished.error_output;
  const auto document = figures();
  EXPECT_EQ(document.at("runs"), 2);
  ASSERT_EQ(document.at("workloads").size(), 1u);
  for (const auto& workload : document.at("workloads")) {
    SCOPED_TRACE(workload.at("name"));
    EXPECT_GE(workload.at("rows").get<int>(), 100);
    EXPECT_GT(workload.at("bytes").get<int>(), 0);
    EXPECT_GT(workload.at("spool_bytes").get<int>(), 0);
    ASSERT_EQ(workload.at("ways").size(), 2u);
    for (const auto& way : workload.at("ways")) {
      SCOPED_TRACE(way.at("apply_path"));
      expect_measured(way, 2);
      EXPECT_EQ(way.at("workers"), 1);
      EXPECT_EQ(way.at("exact_path_retries"), 0);
      EXPECT_GT(way.at("times_builtin").get<double>(), 0);
    }
    EXPECT_GT(workload.at("builtin").at("rows_per_second").get<double>(), 0);
    EXPECT_EQ(workload.at("builtin").at("runs").size(), 2u);
  }
}

TEST_F(ApplyBench, ReplaysARecordedSpoolAndComparesItsRuns) {
  auto master = quiet_cluster("apply-bench-master", "");
  auto standby = quiet_cluster("apply-bench-standby", "");
  const auto workload = chosen(workloads(0.001, 1), {"smallins"});
  const Recording recording({master, standby}, workload.front());
  const auto& ground = recording.ground();
  const std::vector<std::string> arguments{
      "--spool",           ground.data_dir, "--standby", ground.start, "--name",
      ground.subscription, "--runs",        "2",         "--json",     json_file()};
  const auto finished = apply_bench(arguments);
  ASSERT_EQ(finished.exit_code, 0) << finished.output << finished.error_output;
  const auto document = figures();
  EXPECT_EQ(document.at("workloads").at(0).at("rows"), 105) << "100, up to eight each, and a mark";
  expect_measured(document.at("workloads").at(0).at("ways").at(0), 2);

  harness::execute(ground.start, R"(
    CREATE FUNCTION scribble() RETURNS trigger LANGUAGE plpgsql AS
      'BEGIN NEW.note := random(); RETURN NEW; END';
    CREATE TRIGGER scribble BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION scribble();
    ALTER TABLE orders ENABLE ALWAYS TRIGGER scribble)");
  const auto different = apply_bench(arguments);
  EXPECT_EQ(different.exit_code, 1) << different.output;
  EXPECT_NE(different.error_output.find("orders differs"), std::string::npos)
      << different.error_output;
}

}  // namespace
}  // namespace bitacora::bench
