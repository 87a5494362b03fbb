#include "tests/postgres/process.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <system_error>

#include "tests/postgres/database.h"

namespace bitacora::harness {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

TEST(Process, TellsExitCodeAndBothOutputs) {
  const auto finished = run({"sh", "-c", "echo out; echo err >&2; exit 7"});
  EXPECT_EQ(finished.exit_code, 7);
  EXPECT_EQ(finished.output, "out\n");
  EXPECT_EQ(finished.error_output, "err\n");
}

TEST(Process, AdditionsToTheEnvironmentWin) {
  const auto finished =
      run({"sh", "-c", "echo $COLOUR $HOME"}, seconds(5), {"COLOUR=blue", "HOME=x"});
  EXPECT_EQ(finished.output, "blue x\n");
}

TEST(Process, OutputIsReadableWhileItRuns) {
  Process process({"sh", "-c", "echo one; exec sleep 60"});
  EXPECT_TRUE(eventually([&] { return process.output() == "one\n"; }));
  EXPECT_TRUE(process.running());
}

TEST(Process, TimeoutKills) {
  const auto finished = run({"sleep", "60"}, milliseconds(50));
  EXPECT_FALSE(finished.exit_code.has_value());
}

TEST(Process, ASignalIsAnExitCodeAsInAShell) {
  Process process({"sleep", "60"});
  EXPECT_FALSE(process.wait(milliseconds(10)).has_value());
  process.signal(SIGTERM);
  EXPECT_EQ(process.wait(seconds(5)), 128 + SIGTERM);
  process.signal(SIGTERM);  // to nobody
}

TEST(Process, IsSentASignalWhenItHandlesIt) {
  Process process({"sh", "-c", "sleep 0.5; trap 'exit 7' TERM; while :; do sleep 0.05; done"});
  send_signal(process, SIGTERM);
  EXPECT_EQ(process.wait(seconds(5)), 7);
  send_signal(process, SIGTERM);  // to nobody
}

TEST(Process, DoesNotOutliveTheObject) {
  pid_t pid = 0;
  {
    Process process({"sleep", "60"});
    Process moved = std::move(process);
    pid = moved.pid();
    EXPECT_EQ(::kill(pid, 0), 0);
  }
  EXPECT_NE(::kill(pid, 0), 0);
}

TEST(Process, AMissingProgramIsAnException) {
  EXPECT_THROW(Process({"/no/such/program"}), std::system_error);
}

}  // namespace
}  // namespace bitacora::harness
