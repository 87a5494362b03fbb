#include "wal/timeline_history.h"

#include <gtest/gtest.h>

namespace bitacora::wal {
namespace {

// As a server wrote it: promoted at 0/3000A50, then restored to 0/5000110 of that.
constexpr const char* kContent =
    "1\t0/3000A50\tno recovery target specified\n"
    "\n"
    "# a comment\n"
    "2\t0/5000110\tbefore transaction 742\n";

TimelineHistory history() { return parse_timeline_history(3, kContent).value(); }

TEST(TimelineHistory, IsReadFromAFile) {
  const TimelineHistory expected{3, {{1, {0x3000A50}}, {2, {0x5000110}}}};
  EXPECT_EQ(history(), expected);
  EXPECT_EQ(parse_timeline_history(1, "").value(), TimelineHistory{1});
}

TEST(TimelineHistory, UnreadableLinesAreNamed) {
  for (const std::string line : {"one\t0/3000A50\tx", "1\tnowhere\tx", "1", "1x\t0/1\t"}) {
    const auto parsed = parse_timeline_history(2, line);
    ASSERT_FALSE(parsed.ok()) << line;
    EXPECT_NE(parsed.error().message.find(line), std::string::npos) << parsed.error().message;
  }
}

TEST(TimelineHistory, IsSharedUpToWhereATimelineWasLeft) {
  for (const auto& [timeline, lsn] :
       {std::pair{3u, 0x9999999u}, {1u, 0x3000A50u}, {2u, 0x5000110u}, {2u, 0x10u}}) {
    EXPECT_TRUE(check_shared(history(), "r", timeline, {lsn}).ok()) << timeline << ' ' << lsn;
  }
}

TEST(TimelineHistory, NamesWhereHistoriesDiffer) {
  const auto beyond = check_shared(history(), "r", 1, {0x3000A51});
  ASSERT_FALSE(beyond.ok());
  EXPECT_EQ(beyond.error().code, ErrorCode::kState);
  EXPECT_EQ(beyond.error().message,
            "receiver r has changes up to 0/3000A51 of timeline 1, which this master left at "
            "0/3000A50 for its timeline 3: their histories differ");
  const auto foreign = check_shared(history(), "r", 4, {0x10});
  ASSERT_FALSE(foreign.ok());
  EXPECT_NE(foreign.error().message.find("timeline 4, which is no part of"), std::string::npos);
}

}  // namespace
}  // namespace bitacora::wal
