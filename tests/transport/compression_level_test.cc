#include "transport/compression_level.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "transport/host_idle.h"

namespace bitacora::transport {
namespace {

using std::chrono::milliseconds;

constexpr SendingTime kQuiet{milliseconds(10), milliseconds(20), milliseconds(970)};
constexpr SendingTime kSlowLink{milliseconds(100), milliseconds(900), milliseconds(0)};
constexpr SendingTime kCompresses{milliseconds(800), milliseconds(100), milliseconds(100)};

int after(CompressionLevel& level, const SendingTime& spent, double idle, int seconds = 20) {
  for (int i = 0; i < seconds; ++i) level.adapt(spent, idle);
  return level.level();
}

struct Case {
  const char* name;
  SendingTime spent;
  double host_idle;
  int level;
};

TEST(CompressionLevel, GoesWhereThereIsTime) {
  for (const Case& c : {
           Case{"a quiet pair on an idle host", kQuiet, 0.9, kLevelIdleMax},
           Case{"a slow link", kSlowLink, 0.9, kLevelSlowLinkMax},
           Case{"a slow link, and others want the processors", kSlowLink, 0.05, kLevelMin},
           Case{"a quiet pair on a busy host", kQuiet, 0.05, kLevelMin},
           Case{"compressing is what everything waits for", kCompresses, 0.5, kLevelMin},
       }) {
    SCOPED_TRACE(c.name);
    CompressionLevel level;
    EXPECT_EQ(after(level, c.spent, c.host_idle), c.level);
  }
}

TEST(CompressionLevel, GoesStepByStepAndBack) {
  CompressionLevel level;
  EXPECT_EQ(after(level, kSlowLink, 0.9, 1), 2);
  EXPECT_EQ(after(level, kSlowLink, 0.9, 3), 5);
  EXPECT_EQ(after(level, kSlowLink, 0.25), 5) << "neither plenty nor scarce";
  EXPECT_EQ(after(level, kQuiet, 0.9), kLevelIdleMax) << "the link is fast again";
  EXPECT_EQ(after(level, kQuiet, 0.1), kLevelMin);
}

TEST(HostIdle, IsOfTheTimeSinceItWasAsked) {
  const auto path = std::filesystem::temp_directory_path() / "bitacora-proc-stat";
  const auto write = [&](const char* line) { std::ofstream(path) << line << "\ncpu0 1 1 1 1\n"; };
  HostIdle idle(path.string());
  write("cpu  100 0 100 700 100 0 0 0 55 0");
  EXPECT_DOUBLE_EQ(idle.share(), 0.8);
  write("cpu  150 0 125 725 100 0 0 0 55 0");
  EXPECT_DOUBLE_EQ(idle.share(), 0.25);
  EXPECT_DOUBLE_EQ(idle.share(), 0) << "no time has passed";
  std::filesystem::remove(path);
  EXPECT_DOUBLE_EQ(idle.share(), 0) << "the system does not say";
  EXPECT_GE(HostIdle().share(), 0);
}

}  // namespace
}  // namespace bitacora::transport
