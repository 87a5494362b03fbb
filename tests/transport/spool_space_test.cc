// How much of the disk a spool takes, and what it gives back.
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>

#include "tests/transport/played_stream.h"
#include "tests/transport/spool_directory.h"
#include "transport/spool.h"

namespace bitacora::transport {
namespace {

namespace fs = std::filesystem;

TEST_F(SpoolTest, OverItsSizeItIsFullUntilTrimmed) {
  auto small = options();
  small.bytes_max = 6000;
  const auto spool = begun(small);
  PlayedStream stream(11, 11);
  ASSERT_LT(*append_frames(*spool, stream, 1000), 1000);
  EXPECT_LE(spool->bytes(), small.bytes_max);
  const auto end_lsn = spool->end_lsn();
  EXPECT_EQ(*append_frames(*spool, stream, 1), 0) << "still full";
  ASSERT_TRUE(spool->trim({end_lsn.value - 500}, kNow).ok());
  EXPECT_GT(*append_frames(*spool, stream, 1000), 0);
  EXPECT_GT(spool->end_lsn(), end_lsn);
  expect_content(*spool, end_lsn);
}

TEST_F(SpoolTest, WhenAllIsAppliedALargeTransactionPasses) {
  auto small = options();
  small.bytes_max = 100;
  const auto spool = begun(small);
  PlayedStream stream(14, 12);  // 14 is a large one
  EXPECT_EQ(*append_frames(*spool, stream, 1), 0);
  ASSERT_TRUE(spool->trim(kStart, kNow).ok());
  EXPECT_GT(*append_frames(*spool, stream, 100), 1);
  EXPECT_GE(spool->end_lsn(), end_of_transaction(14));
}

TEST_F(SpoolTest, TheDisksReserveIsLeftAlone) {
  auto none = options();
  none.disk_reserve_bytes = UINT64_MAX;
  const auto spool = begun(none);
  PlayedStream stream(11, 13);
  EXPECT_EQ(*append_frames(*spool, stream, 1), 0);
  EXPECT_TRUE(files().empty());
}

// A crash may take the newer one along.
TEST_F(SpoolTest, ASegmentThatIsNotDurableReplacesNoneBeforeIt) {
  auto nothing_kept = options();
  nothing_kept.keep_time = std::chrono::seconds(0);
  nothing_kept.keep_bytes = 0;
  const auto spool = begun(nothing_kept);
  PlayedStream stream(11, 14);
  append_through(*spool, stream, 12);
  sync(*spool);
  const auto end_lsn = spool->end_lsn();
  begin(*spool, end_lsn);
  PlayedStream next(last_transaction(end_lsn) + 1, 15);
  ASSERT_EQ(*append_frames(*spool, next, 1), 1);
  const auto marked = segment_name(spool->synced_mark()->segment);
  ASSERT_TRUE(spool->trim(end_lsn, kNow).ok());
  EXPECT_TRUE(files().contains(marked));
  sync(*spool);
  ASSERT_TRUE(spool->trim(end_lsn, kNow).ok());
  EXPECT_FALSE(files().contains(marked));
}

// What was only kept is needed again.
TEST_F(SpoolTest, AStandbyThatWasRestoredKeepsWhatItStillReads) {
  auto keeping = options();
  keeping.keep_time = std::chrono::hours(1);
  keeping.keep_bytes = 1u << 20;
  const auto spool = begun(keeping);
  PlayedStream stream(11, 16);
  append_through(*spool, stream, 60);
  sync(*spool);
  const auto restored = end_of_transaction(20);
  ASSERT_TRUE(spool->trim(end_of_transaction(60), kNow).ok());
  auto reader = spool->read_from(restored);
  ASSERT_TRUE(reader.ok());
  const auto much_later = kNow + std::int64_t{100'000} * 1'000'000;
  ASSERT_TRUE(spool->trim(restored, much_later).ok());
  EXPECT_LE(spool->begin_lsn(), restored);
  TransactionCollector collector(restored);
  EXPECT_EQ(read_to_tail(**reader, collector), std::nullopt);
  EXPECT_GE(collector.applied(), end_of_transaction(60));
}

TEST_F(SpoolTest, WhatIsAppliedIsKeptWithinTimeAndSize) {
  struct Case {
    const char* name;
    std::chrono::seconds keep_time;
    std::uint64_t keep_bytes;
    bool kept;
  };
  for (const Case& c : {Case{"nothing asked", std::chrono::seconds(0), 0, false},
                        Case{"time without size", std::chrono::hours(1), 0, false},
                        Case{"size without time", std::chrono::seconds(0), 1 << 20, false},
                        Case{"both", std::chrono::hours(1), 1 << 20, true}}) {
    SCOPED_TRACE(c.name);
    fs::remove_all(directory_ / "spool");
    auto keeping = options();
    keeping.keep_time = c.keep_time;
    keeping.keep_bytes = c.keep_bytes;
    keeping.bytes_max = 8000;
    const auto spool = begun(keeping);
    PlayedStream stream(11, 14);
    append_through(*spool, stream, 25);
    const auto applied = MasterLsn{2300};
    ASSERT_TRUE(spool->trim(applied, kNow).ok());
    EXPECT_EQ(spool->begin_lsn() == kStart, c.kept);
    EXPECT_LE(spool->begin_lsn(), applied) << "rule I2";
    expect_content(*spool, applied);
    if (!c.kept) continue;
    ASSERT_LT(*append_frames(*spool, stream, 1000), 1000) << "full";
    EXPECT_GT(spool->begin_lsn(), kStart) << "what is only kept goes first";
    expect_content(*spool, applied);
  }
}

}  // namespace
}  // namespace bitacora::transport
