// What a sender makes of batches and a receiver of its messages, transactions in progress included.
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <deque>

#include "transport/message_decoder.h"
#include "transport/message_encoder.h"

namespace bitacora::transport {
namespace {

using proto::EncodedBatch;
using proto::StreamEvent;

std::string with_rows(const std::string& tuples) {
  pb::ChangeBatch batch;
  batch.add_parts()->mutable_relation()->set_name("datos");
  batch.add_parts()->mutable_rows()->set_tuples(tuples);
  return proto::serialize_batch(batch);
}

EncodedBatch part(std::uint32_t xid, const std::string& tuples) {
  return {.bytes = with_rows(tuples), .event = StreamEvent::kPart, .stream_xid = xid};
}

EncodedBatch commit(std::uint32_t xid) {
  pb::ChangeBatch begin;
  begin.add_parts()->mutable_begin();
  pb::ChangeBatch end;
  end.add_parts()->mutable_commit();
  return {.bytes = proto::serialize_batch(begin),
          .end_lsn = {500},
          .event = StreamEvent::kCommit,
          .stream_xid = xid,
          .closing = proto::serialize_batch(end)};
}

class MessageCodec : public testing::Test {
 protected:
  void send(const EncodedBatch& batch) {
    const auto sent = encoder_.encode(batch, [&](pb::SenderMessage& message) {
      messages_.push_back(std::move(message));
      return Result<void>{};
    });
    ASSERT_TRUE(sent.ok()) << one_line(sent.error());
  }
  // What it becomes at the other end.
  template <class Event>
  Event receive() {
    auto event = decoder_.decode(std::move(messages_.front()));
    messages_.pop_front();
    EXPECT_TRUE(event.ok()) << (event.ok() ? "" : one_line(event.error()));
    return std::get<Event>(**event);
  }

  MessageEncoder encoder_{1};
  MessageDecoder decoder_;
  std::deque<pb::SenderMessage> messages_;
};

TEST_F(MessageCodec, StreamedFramesComeBetweenTheOthers) {
  send({.bytes = with_rows("plain"), .end_lsn = {100}});
  send(part(7, "streamed"));
  send({.bytes = with_rows("plain again"), .end_lsn = {200}});
  EXPECT_EQ(receive<ReceivedFrame>().changes->parts(1).rows().tuples(), "plain");
  const auto streamed = receive<StreamedFrame>();
  EXPECT_EQ(streamed.xid, 7u);
  ASSERT_EQ(streamed.described.parts_size(), 1);
  EXPECT_EQ(streamed.described.parts(0).relation().name(), "datos");
  const auto plain = receive<ReceivedFrame>();
  EXPECT_EQ(plain.changes->parts(1).rows().tuples(), "plain again");
  EXPECT_EQ(plain.frame.sequence(), 2u) << "streamed frames are numbered apart";
}

TEST_F(MessageCodec, ACommitSaysWhereTheStreamedFramesBelong) {
  send(part(7, "streamed"));
  send(commit(7));
  send({.bytes = with_rows("behind it"), .end_lsn = {600}});
  receive<StreamedFrame>();
  EXPECT_TRUE(receive<ReceivedFrame>().changes->parts(0).has_begin());
  EXPECT_EQ(receive<StreamCommitted>().xid, 7u);
  const auto end = receive<ReceivedFrame>();
  EXPECT_TRUE(end.changes->parts(0).has_commit());
  EXPECT_EQ(end.frame.end_lsn(), 500u);
  EXPECT_TRUE(end.frame.context_reset()) << "a segment of the spool begins";
  EXPECT_EQ(receive<ReceivedFrame>().changes->parts(1).rows().tuples(), "behind it");
}

TEST_F(MessageCodec, AnAbortedOneMayBeginAnew) {
  send(part(7, "void"));
  send({.event = StreamEvent::kAbort, .stream_xid = 7});
  send(part(7, "anew"));
  receive<StreamedFrame>();
  EXPECT_EQ(receive<StreamAborted>().xid, 7u);
  EXPECT_TRUE(receive<StreamedFrame>().frame.context_reset());
}

// Both ends forget the same chains.
TEST_F(MessageCodec, ManyTransactionsTakeTurns) {
  constexpr std::uint32_t kTransactions = kStreamChainsMax + 3;
  for (int round = 0; round < 3; ++round) {
    for (std::uint32_t xid = 1; xid <= kTransactions; ++xid)
      send(part(xid, std::string(300'000, static_cast<char>('a' + xid))));
    for (std::uint32_t xid = 1; xid <= 3; ++xid) send(part(xid, "one of a few"));
  }
  while (!messages_.empty()) receive<StreamedFrame>();
}

TEST_F(MessageCodec, AStreamedFrameThatIsNotNextIsRefused) {
  send(part(7, "first"));
  send(part(7, "second"));
  messages_.pop_front();
  const auto refused = decoder_.decode(messages_.front());
  ASSERT_FALSE(refused.ok());
  EXPECT_TRUE(refused.error().heals());
}

}  // namespace
}  // namespace bitacora::transport
