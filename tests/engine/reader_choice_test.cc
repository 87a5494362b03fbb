#include "engine/reader_choice.h"

#include <gtest/gtest.h>

namespace bitacora::engine {
namespace {

constexpr std::uint64_t kMiB = 1u << 20;
const ReaderChoice::Clock::time_point kNow{std::chrono::hours(1)};

TEST(ReaderChoice, MoreIsAskedOfARunningLiveReaderThanOfOneThatBegins) {
  const ReaderChoice choice;
  EXPECT_FALSE(choice.begins_with_catch_up({4 * kMiB - 1, 0}, kNow));
  EXPECT_TRUE(choice.begins_with_catch_up({4 * kMiB, 0}, kNow));
  EXPECT_FALSE(choice.has_fallen_behind({4 * kMiB, 0}, kNow));
  EXPECT_TRUE(choice.has_fallen_behind({16 * kMiB, 0}, kNow));
}

// Or a transaction of many gigabytes would be read from its beginning again and again.
TEST(ReaderChoice, ALongOpenTransactionIsTheLiveReaders) {
  const ReaderChoice choice;
  const Backlog behind{1000 * kMiB, 256 * kMiB + 1};
  EXPECT_FALSE(choice.begins_with_catch_up(behind, kNow));
  EXPECT_FALSE(choice.has_fallen_behind(behind, kNow));
}

TEST(ReaderChoice, WhatWasDeclinedIsTriedAgainAfterAMinute) {
  ReaderChoice choice;
  choice.on_declined("no room", kNow);
  EXPECT_FALSE(choice.begins_with_catch_up({100 * kMiB, 0}, kNow + std::chrono::seconds(59)));
  EXPECT_TRUE(choice.begins_with_catch_up({100 * kMiB, 0}, kNow + std::chrono::seconds(60)));
}

TEST(ReaderChoice, WhyItWasDeclinedIsSaidOnce) {
  ReaderChoice choice;
  EXPECT_TRUE(choice.on_declined("could not write to file pgsql_tmp12.0", kNow));
  EXPECT_FALSE(choice.on_declined("could not write to file pgsql_tmp345.1", kNow));
  EXPECT_TRUE(choice.on_declined("all replication slots are in use", kNow));
  choice.on_caught_up();
  EXPECT_TRUE(choice.on_declined("all replication slots are in use", kNow));
}

}  // namespace
}  // namespace bitacora::engine
