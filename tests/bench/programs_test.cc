// The programs that measure, in their smallest form: that they come to an end, and what they say to
// wrong arguments.
#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <vector>

#include "engine/child_process.h"

namespace bitacora::bench {
namespace {

engine::Finished run_program(const std::string& name, std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), std::string(BENCH_DIRECTORY) + "/" + name);
  return engine::run(std::move(arguments), std::chrono::minutes(2));
}

struct Program {
  std::string name;
  std::vector<std::string> least;
  std::vector<std::string> lines;  // that its output has, each with a figure
};

TEST(Programs, MeasureWhatTheySay) {
  for (const auto& program :
       {Program{"reader_bench",
                {"--scale", "0.01", "--rounds", "1", "--workloads", "hot"},
                {"peek, count(*)", "catch-up reader", "live reader"}},
        Program{"wire_bytes",
                {"--scale", "0.01", "--workloads", "hot"},
                {"hot       as it happens", "hot       backlog"}},
        Program{"copy_bench",
                {"--rows", "1000", "--tables", "3", "--rounds", "1"},
                {"large: one table of 1000 rows", "  bitacora", "  built-in", "built-in takes"}},
        Program{"fan_out",
                {"--rate", "100", "--seconds", "1", "--receivers", "2", "--rounds", "1"},
                {"  one       round 1", "  fan_out   round 1", "  builtin   round 1",
                 "master's CPU, fan_out : one", "master's CPU, builtin : one"}},
        Program{"steady_state",
                {"--seconds", "1", "--scale", "1", "--precision", "0.5"},
                {"bitacora", "builtin", "highest kept"}}}) {
    SCOPED_TRACE(program.name);
    const auto finished = run_program(program.name, program.least);
    EXPECT_EQ(finished.exit_code, 0) << finished.output << finished.error_output;
    for (const auto& line : program.lines)
      EXPECT_NE(finished.output.find(line), std::string::npos) << line << "\n" << finished.output;
  }
}

TEST(Programs, SayHowTheyAreUsed) {
  for (const std::string name :
       {"reader_bench", "wire_bytes", "steady_state", "against_native", "spool_sync", "apply_bench",
        "set_forms", "copy_bench", "fan_out"}) {
    SCOPED_TRACE(name);
    const auto finished = run_program(name, {"--no-such-option"});
    EXPECT_EQ(finished.exit_code, 1);
    EXPECT_NE(finished.error_output.find("Usage: " + name), std::string::npos)
        << finished.error_output;
  }
}

}  // namespace
}  // namespace bitacora::bench
