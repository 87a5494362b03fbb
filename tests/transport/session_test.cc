// The protocol's two state machines, message by message. Whole schedules: tests/simulator.
#include <gtest/gtest.h>

#include "proto/relation.h"
#include "transport/receiver_session.h"
#include "transport/sender_session.h"
#include "transport/slot_hold.h"

namespace bitacora::transport {
namespace {

pb::Frame frame(std::uint64_t sequence, std::size_t bytes = 10) {
  pb::Frame made;
  made.set_sequence(sequence);
  made.set_payload(std::string(bytes, 'x'));
  return made;
}

pb::ReceiverMessage ack(std::uint64_t sequence) {
  pb::ReceiverMessage message;
  message.mutable_ack()->set_frames(sequence);
  message.mutable_ack()->set_received_lsn(30);
  message.mutable_ack()->set_flushed_lsn(20);
  message.mutable_ack()->set_applied_lsn(10);
  return message;
}

TEST(SenderSession, FramesGoOutWhileTheWindowHasRoom) {
  SenderSession session({.frames_max = 2});
  session.on_sent(frame(1));
  EXPECT_TRUE(session.has_room());
  session.on_sent(frame(2));
  EXPECT_FALSE(session.has_room());
  const auto action = session.on_message(ack(1));
  ASSERT_TRUE(std::holds_alternative<NotePositions>(action));
  EXPECT_EQ(std::get<NotePositions>(action).positions, (ReceiverPositions{{30}, {20}, {10}}));
  EXPECT_TRUE(session.has_room());
}

TEST(SenderSession, WhatBreaksTheProtocolEndsTheConnection) {
  SenderSession session;
  session.on_sent(frame(1));
  pb::ReceiverMessage withdraw;
  withdraw.mutable_withdraw();
  EXPECT_TRUE(std::holds_alternative<Forget>(session.on_message(withdraw)));
  EXPECT_TRUE(std::holds_alternative<HangUp>(session.on_message({})));
  EXPECT_EQ(session.ending().message, "the connection ended");
  EXPECT_TRUE(std::holds_alternative<HangUp>(session.on_message(ack(2))));
  EXPECT_EQ(session.ending().message, "it acknowledged a frame that was never sent");
  EXPECT_TRUE(session.ending().heals());
}

TEST(SenderSession, AnotherVersionIsNotGreeted) {
  EXPECT_FALSE(read_greeting(ack(1)).ok());
  pb::ReceiverMessage message;
  message.mutable_hello()->set_wire_version(proto::kWireVersion + 1);
  EXPECT_FALSE(read_greeting(message).ok());
  message.mutable_hello()->set_wire_version(proto::kWireVersion);
  EXPECT_TRUE(read_greeting(message).ok());
}

TEST(ReceiverSession, BeginsWhereItAskedTo) {
  pb::Welcome welcome;
  welcome.set_start_lsn(500);
  const ReceiverName name{"main", "norte", "i"};
  EXPECT_EQ(ReceiverSession(name, {}, {}).on_welcome(welcome).value(), MasterLsn{500});
  const ReceiverSession asking(name, pb::Identity(), {500});
  EXPECT_EQ(asking.hello().resume_lsn(), 500u);
  EXPECT_TRUE(asking.hello().has_identity());
  EXPECT_EQ(asking.on_welcome(welcome).value(), MasterLsn{500});
  const auto elsewhere = ReceiverSession(name, {}, {400}).on_welcome(welcome);
  ASSERT_FALSE(elsewhere.ok());
  EXPECT_EQ(elsewhere.error().code, ErrorCode::kState);
}

ReceivedFrame received(std::uint64_t sequence, std::initializer_list<const char*> parts) {
  ReceivedFrame made{frame(sequence), std::make_shared<pb::ChangeBatch>(), 1};
  for (const std::string_view part : parts) {
    if (part == "begin") made.changes->add_parts()->mutable_begin();
    if (part == "relation") made.changes->add_parts()->mutable_relation();
    if (part == "commit") made.changes->add_parts()->mutable_commit();
  }
  return made;
}

// What a segment's header describes must not come before the frame that brought it.
TEST(ReceiverSession, AppendsThenDescribesThenPuts) {
  ReceiverSession session({}, {}, {});
  const auto actions = session.on(received(7, {"begin", "relation"}));
  ASSERT_EQ(actions.size(), 4u);
  EXPECT_TRUE(std::get<AppendFrame>(actions[0]).transaction_open);
  EXPECT_TRUE(std::holds_alternative<DescribeRelation>(actions[1]));
  EXPECT_TRUE(std::get<PutBatch>(actions[2]).transaction_open);
  EXPECT_EQ(std::get<NoteReceived>(actions[3]).frames, 1u);
}

TEST(ReceiverSession, ATransactionStaysOpenOverBatchesAndFrames) {
  ReceiverSession session({}, {}, {});
  const auto open_behind = [&](ReceivedFrame next) {
    return std::get<AppendFrame>(session.on(std::move(next)).front()).transaction_open;
  };
  EXPECT_TRUE(open_behind(received(1, {"begin"})));
  EXPECT_TRUE(open_behind({frame(2), nullptr, 0})) << "its batch goes on";
  EXPECT_TRUE(open_behind(received(3, {})));
  EXPECT_FALSE(open_behind(received(4, {"commit"})));
  EXPECT_TRUE(open_behind(received(5, {"begin", "commit", "begin"})));
}

TEST(ReceiverSession, AcknowledgesWhatMovedOrSeveralFrames) {
  const ReceiverProgress known{1, {30}, {20}, {10}};
  EXPECT_FALSE(worth_acknowledging(known, {8, {90}, {20}, {10}}));
  EXPECT_TRUE(worth_acknowledging(known, {9, {90}, {20}, {10}}));
  EXPECT_TRUE(worth_acknowledging(known, {1, {30}, {21}, {10}}));
  EXPECT_TRUE(worth_acknowledging(known, {1, {30}, {20}, {11}}));
  EXPECT_EQ(acknowledgement(known).flushed_lsn(), 20u);
}

TEST(SlotHold, NamesTheGapOfWhoComesTooLate) {
  SubscriptionHub hub({.queue_bytes_max = 100}, [] {});
  SlotHold hold(hub);
  EXPECT_FALSE(hold.report().has_value());
  EXPECT_EQ((*hold.join_new("a", "i", {300}))->start_lsn(), MasterLsn{300});
  EXPECT_EQ(hold.report()->flushed, MasterLsn{300});
  EXPECT_EQ((*hold.join_new("b", "i", {100}))->start_lsn(), MasterLsn{300})
      << "the master was told already";
  const auto late = hold.join_at("c", "i", {299}, {100});
  ASSERT_FALSE(late.ok());
  EXPECT_NE(late.error().message.find("the gap 0/12B to 0/12C is lost"), std::string::npos);
  EXPECT_FALSE(hub.is_registered("c"));
  EXPECT_TRUE(hold.join_at("c", "i", {400}, {100}).ok());
}

TEST(SlotHold, WhoBeginsAnewHasNotWhatItAcknowledged) {
  SubscriptionHub hub({.queue_bytes_max = 100}, [] {});
  SlotHold hold(hub);
  hub.restore_receiver("a", {500});
  hub.restore_receiver("b", {300});
  EXPECT_EQ(hold.report()->flushed, MasterLsn{300});
  const auto dying = *hub.join("a", "i", {500});
  EXPECT_EQ((*hold.join_new("a", "i", {300}))->start_lsn(), MasterLsn{300});
  hub.acknowledge(*dying, {{600}, {600}, {600}});  // of what is there no more
  hub.acknowledge(**hub.join("b", "i", {300}), {{500}, {500}, {500}});
  EXPECT_EQ(hold.report()->flushed, MasterLsn{300});
}

}  // namespace
}  // namespace bitacora::transport
