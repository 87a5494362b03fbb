#include "transport/message_encoder.h"

#include <algorithm>
#include <utility>

namespace bitacora::transport {

MessageEncoder::MessageEncoder(int level, FrameLimits limits)
    : level_(level), limits_(limits), chain_(level, limits) {}

void MessageEncoder::set_level(int level) {
  level_ = level;
  chain_.set_level(level);
}

Result<void> MessageEncoder::encode(const proto::EncodedBatch& batch, const Send& send) {
  switch (batch.event) {
    case proto::StreamEvent::kNone:
      return encode_frames(batch.bytes, batch.end_lsn, send);
    case proto::StreamEvent::kPart:
      return encode_part(batch, send);
    case proto::StreamEvent::kCommit:
      return encode_commit(batch, send);
    case proto::StreamEvent::kAbort:
      break;
  }
  return encode_abort(batch.stream_xid, send);
}

Result<void> MessageEncoder::encode_frames(const std::string& bytes, MasterLsn end_lsn,
                                           const Send& send) {
  return chain_.encode(bytes, end_lsn, [&](pb::Frame& frame) {
    pb::SenderMessage message;
    message.mutable_frame()->Swap(&frame);
    return send(message);
  });
}

Result<void> MessageEncoder::encode_part(const proto::EncodedBatch& batch, const Send& send) {
  auto* chain = stream_chains_.find(batch.stream_xid);
  if (chain == nullptr) {
    auto limits = limits_;
    limits.window_log_max = std::min(limits.window_log_max, kStreamWindowLog);
    chain = &stream_chains_.emplace(batch.stream_xid, level_, limits);
  }
  chain->set_level(level_);
  return chain->encode(batch.bytes, {}, [&](pb::Frame& frame) {
    pb::SenderMessage message;
    message.mutable_streamed_frame()->set_xid(batch.stream_xid);
    message.mutable_streamed_frame()->mutable_frame()->Swap(&frame);
    return send(message);
  });
}

// The streamed frames come in between: the chain cannot go on behind them.
Result<void> MessageEncoder::encode_commit(const proto::EncodedBatch& batch, const Send& send) {
  RETURN_IF_ERROR(encode_frames(batch.bytes, {}, send));
  stream_chains_.erase(batch.stream_xid);
  pb::SenderMessage message;
  message.mutable_stream_commit()->set_xid(batch.stream_xid);
  RETURN_IF_ERROR(send(message));
  chain_ = FrameEncoder(level_, limits_);
  return encode_frames(batch.closing, batch.end_lsn, send);
}

Result<void> MessageEncoder::encode_abort(std::uint32_t xid, const Send& send) {
  stream_chains_.erase(xid);
  pb::SenderMessage message;
  message.mutable_stream_abort()->set_xid(xid);
  return send(message);
}

}  // namespace bitacora::transport
