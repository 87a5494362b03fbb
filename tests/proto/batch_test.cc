#include "proto/batch.h"

#include <gtest/gtest.h>

namespace bitacora::proto {
namespace {

pb::ChangeBatch changes() {
  pb::ChangeBatch batch;
  const auto begin = [&](std::int32_t xid, std::uint64_t lsn, std::int64_t time) {
    auto& part = *batch.add_parts()->mutable_begin();
    part.set_xid(xid);
    part.set_commit_lsn(lsn);
    part.set_commit_time_usec(time);
  };
  const auto commit = [&](std::uint64_t lsn, std::uint64_t end) {
    batch.add_parts()->mutable_commit()->set_commit_lsn(lsn);
    batch.mutable_parts(batch.parts_size() - 1)->mutable_commit()->set_end_lsn(end);
  };
  begin(733, 0x1'6B37'4D80, 1'718'100'000'000'000);
  batch.add_parts()->mutable_relation()->set_name("datos");
  batch.add_parts()->mutable_rows()->set_tuples(std::string(300, 'x'));
  commit(0x1'6B37'4D80, 0x1'6B37'4DB0);
  begin(731, 0x1'6B37'4DB0, 1'718'099'999'999'990);  // began earlier, by a clock that went back
  commit(0x1'6B37'4DB0, 0x1'6B37'4DE0);
  batch.add_parts()->mutable_type()->set_name("mood");
  batch.add_parts()->mutable_idle_position()->set_lsn(0xFFFF'FFFF'FFFF'FFFF);
  begin(-1, 1, -5);  // the last transaction ID, and what wraps around
  return batch;
}

TEST(Batch, IsReadAsItWasWritten) {
  auto batch = changes();
  const auto read = parse_batch(serialize_batch(batch));
  ASSERT_NE(read, nullptr);
  EXPECT_EQ(read->DebugString(), changes().DebugString());
}

TEST(Batch, DifferencesAreShort) {
  pb::ChangeBatch batch;
  for (std::int32_t i = 0; i < 100; ++i) {
    auto& begin = *batch.add_parts()->mutable_begin();
    begin.set_xid(100'000 + i);
    begin.set_commit_lsn(0x1'6B37'4D80 + static_cast<std::uint64_t>(i) * 100);
    begin.set_commit_time_usec(1'718'100'000'000'000 + i * 60);
  }
  EXPECT_LT(serialize_batch(batch).size(), 100 * 11u + 20);
}

TEST(Batch, DescriptionsAreFoundWithoutTheRows) {
  auto batch = changes();
  pb::ChangeBatch described;
  ASSERT_TRUE(parse_descriptions(serialize_batch(batch), described));
  ASSERT_EQ(described.parts_size(), 2);
  EXPECT_EQ(described.parts(0).relation().name(), "datos");
  EXPECT_EQ(described.parts(1).type().name(), "mood");
}

TEST(Batch, WhatIsNoneIsRefused) {
  auto batch = changes();
  const auto bytes = serialize_batch(batch);
  pb::ChangeBatch described;
  EXPECT_FALSE(parse_descriptions(bytes.substr(0, bytes.size() - 1), described));
  EXPECT_FALSE(parse_descriptions("no batch", described));
  EXPECT_EQ(parse_batch("no batch"), nullptr);
}

}  // namespace
}  // namespace bitacora::proto
