#include "transport/shared_read.h"

#include <gtest/gtest.h>

namespace bitacora::transport {
namespace {

using proto::EncodedBatch;
using proto::StreamEvent;

constexpr std::uint64_t kNear = 1000;
constexpr CompanyRules kAlone{true, kNear};
constexpr CompanyRules kTogether{false, kNear};

EncodedBatch whole(std::uint64_t end_lsn) { return {"", {end_lsn}, false}; }
EncodedBatch open_part() { return {"", {}, true}; }

EncodedBatch stream(std::uint32_t xid, StreamEvent event, std::uint64_t end_lsn = 0) {
  EncodedBatch batch = whole(end_lsn);
  batch.stream_xid = xid;
  batch.event = event;
  return batch;
}

SharedRead read_at(std::uint64_t position) {
  SharedRead common;
  common.begin({position});
  return common;
}

TEST(SharedRead, NobodyComesInBeforeARunOrInsideATransaction) {
  SharedRead common;
  EXPECT_FALSE(common.at_boundary());
  common.begin({100});
  EXPECT_TRUE(common.at_boundary());
  common.advance(open_part());
  EXPECT_FALSE(common.at_boundary());
  EXPECT_EQ(common.position(), MasterLsn{100});
  common.advance(whole(150));
  EXPECT_TRUE(common.at_boundary());
  EXPECT_EQ(common.position(), MasterLsn{150});
  common.break_off();
  EXPECT_FALSE(common.at_boundary());
}

TEST(SharedRead, KnowsTheOpenStreamsOfItsRun) {
  auto common = read_at(100);
  common.advance(stream(7, StreamEvent::kPart));
  common.advance(stream(8, StreamEvent::kPart));
  EXPECT_TRUE(common.at_boundary());
  common.advance(stream(7, StreamEvent::kCommit, 120));
  EXPECT_EQ(common.open_streams(), std::set<std::uint32_t>{8});
  EXPECT_EQ(common.position(), MasterLsn{120});
  common.advance(stream(8, StreamEvent::kAbort));
  EXPECT_TRUE(common.open_streams().empty());
  common.advance(stream(9, StreamEvent::kPart));
  common.begin({120});
  EXPECT_TRUE(common.open_streams().empty()) << "the next run brings it from its beginning";
}

TEST(SharedRead, WhereAJoinerComesIn) {
  auto common = read_at(5000);
  struct Case {
    const char* name;
    std::uint64_t position;
    Entry alone;
    Entry together;
  };
  for (const Case& c : {
           Case{"behind", 4999, Entry::kReadAlone, Entry::kRestart},
           Case{"level", 5000, Entry::kComeIn, Entry::kComeIn},
           Case{"ahead", 6000, Entry::kComeIn, Entry::kComeIn},
           Case{"far ahead", 6001, Entry::kRestart, Entry::kComeIn},
       }) {
    SCOPED_TRACE(c.name);
    EXPECT_EQ(entry(common, {c.position}, kAlone), c.alone);
    EXPECT_EQ(entry(common, {c.position}, kTogether), c.together);
  }
  common.advance(open_part());
  EXPECT_EQ(entry(common, {5000}, kAlone), Entry::kReadAlone) << "however long it takes";
  EXPECT_EQ(entry(common, {5000}, kTogether), Entry::kWait);
}

TEST(SharedRead, WhoCannotReadAloneComesInWhereNoStreamIsOpen) {
  auto common = read_at(5000);
  common.advance(stream(7, StreamEvent::kPart));
  EXPECT_EQ(entry(common, {5000}, kAlone), Entry::kComeIn) << "and reads 7 alone later";
  EXPECT_EQ(entry(common, {5000}, kTogether), Entry::kRestart);
  common.advance(stream(7, StreamEvent::kAbort));
  EXPECT_EQ(entry(common, {5000}, kTogether), Entry::kComeIn);
}

TEST(SharedRead, TheWayBack) {
  auto common = read_at(5000);
  EXPECT_EQ(way_back(common, {5000}, kAlone), WayBack::kNow);
  EXPECT_EQ(way_back(common, {9000}, kAlone), WayBack::kNow);
  EXPECT_EQ(way_back(common, {4999}, kAlone), WayBack::kHold);
  EXPECT_EQ(way_back(common, {4000}, kAlone), WayBack::kHold);
  EXPECT_EQ(way_back(common, {3999}, kAlone), WayBack::kFar);
  common.advance(open_part());
  EXPECT_EQ(way_back(common, {5000}, kAlone), WayBack::kFar);
}

TEST(SharedRead, BeginsWithTheFurthestAndWhoIsNear) {
  EXPECT_EQ(common_start({{5000}}, kAlone), MasterLsn{5000});
  EXPECT_EQ(common_start({{5000}, {100}, {4000}}, kAlone), MasterLsn{4000});
  EXPECT_EQ(common_start({{5000}, {3999}, {100}}, kAlone), MasterLsn{5000});
  EXPECT_EQ(common_start({{5000}, {100}, {4000}}, kTogether), MasterLsn{100});
}

TEST(ReceiverCursor, LeavesOutWhatItHas) {
  ReceiverCursor cursor({200});
  cursor.come_in({});
  EXPECT_EQ(cursor.delivery(whole(199)), Delivery::kLeaveOut);
  EXPECT_EQ(cursor.delivery(whole(200)), Delivery::kLeaveOut);
  EXPECT_EQ(cursor.delivery(whole(0)), Delivery::kPut) << "nobody knows where it lies";
  EXPECT_EQ(cursor.delivery(whole(201)), Delivery::kPut) << "it may begin before, and is whole";
  cursor.put(whole(201));
  EXPECT_EQ(cursor.position(), MasterLsn{201});
}

TEST(ReceiverCursor, OfATransactionInPartsTheEndFollowsTheBeginning) {
  ReceiverCursor cursor({200});
  cursor.come_in({});
  EXPECT_EQ(cursor.delivery(open_part()), Delivery::kPut);
  cursor.put(open_part());
  EXPECT_FALSE(cursor.between_transactions());
  EXPECT_EQ(cursor.delivery(whole(150)), Delivery::kPut);
  cursor.put(whole(150));
  EXPECT_TRUE(cursor.between_transactions());
  EXPECT_EQ(cursor.position(), MasterLsn{200}) << "never back";
  EXPECT_EQ(cursor.delivery(whole(160)), Delivery::kLeaveOut);
}

TEST(ReceiverCursor, OfAStreamItSawBeginItGetsEverything) {
  ReceiverCursor cursor({200});
  cursor.come_in({});
  EXPECT_EQ(cursor.delivery(stream(7, StreamEvent::kPart)), Delivery::kPut);
  cursor.put(stream(7, StreamEvent::kPart));
  EXPECT_FALSE(cursor.between_transactions()) << "it holds a part of it";
  cursor.put(whole(210));
  EXPECT_FALSE(cursor.between_transactions()) << "other transactions come between";
  EXPECT_EQ(cursor.delivery(stream(7, StreamEvent::kCommit, 205)), Delivery::kPut);
  cursor.put(stream(7, StreamEvent::kCommit, 205));
  EXPECT_TRUE(cursor.between_transactions());
}

TEST(ReceiverCursor, OfAStreamItMissedTheBeginningOfItGetsNothing) {
  ReceiverCursor cursor({200});
  cursor.come_in({7, 8});
  EXPECT_EQ(cursor.delivery(stream(7, StreamEvent::kPart)), Delivery::kLeaveOut);
  EXPECT_EQ(cursor.delivery(stream(7, StreamEvent::kAbort)), Delivery::kLeaveOut);
  cursor.leave_out(stream(7, StreamEvent::kAbort));
  EXPECT_EQ(cursor.delivery(stream(7, StreamEvent::kPart)), Delivery::kPut) << "another one";
  EXPECT_EQ(cursor.delivery(stream(8, StreamEvent::kCommit, 300)), Delivery::kReadAlone);
  EXPECT_EQ(cursor.delivery(stream(8, StreamEvent::kCommit, 200)), Delivery::kLeaveOut)
      << "it read that alone";
  EXPECT_EQ(cursor.delivery(stream(9, StreamEvent::kPart)), Delivery::kPut);
}

}  // namespace
}  // namespace bitacora::transport
