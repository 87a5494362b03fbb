#include "transport/message_decoder.h"

#include <utility>

#include "proto/batch.h"

namespace bitacora::transport {
namespace {

Error unreadable(const char* what) { return {ErrorCode::kNetwork, what, {}, Recovery::kRetry}; }

}  // namespace

Result<std::optional<SenderEvent>> MessageDecoder::decode(pb::SenderMessage message) {
  using Event = std::optional<SenderEvent>;
  switch (message.kind_case()) {
    case pb::SenderMessage::kHeartbeat:
      return Event(std::move(*message.mutable_heartbeat()));
    case pb::SenderMessage::kFrame: {
      ASSIGN_OR_RETURN(auto frame, decode_frame(std::move(*message.mutable_frame())));
      return Event(std::move(frame));
    }
    case pb::SenderMessage::kStreamedFrame: {
      ASSIGN_OR_RETURN(auto streamed,
                       decode_streamed(std::move(*message.mutable_streamed_frame())));
      return Event(std::move(streamed));
    }
    case pb::SenderMessage::kStreamCommit:
      stream_chains_.erase(message.stream_commit().xid());
      chain_ = FrameDecoder(limits_);
      return Event(StreamCommitted{message.stream_commit().xid()});
    case pb::SenderMessage::kStreamAbort:
      stream_chains_.erase(message.stream_abort().xid());
      return Event(StreamAborted{message.stream_abort().xid()});
    default:
      return Event();
  }
}

Result<ReceivedFrame> MessageDecoder::decode_frame(pb::Frame frame) {
  ASSIGN_OR_RETURN(const bool complete, chain_.decode(frame));
  ReceivedFrame received;
  received.frame.Swap(&frame);
  if (!complete) return received;
  received.changes = proto::parse_batch(chain_.batch());
  received.bytes = chain_.batch().size();
  if (received.changes == nullptr) return unreadable("a batch does not parse");
  return received;
}

Result<StreamedFrame> MessageDecoder::decode_streamed(pb::StreamedFrame streamed) {
  auto* chain = stream_chains_.find(streamed.xid());
  if (chain == nullptr) chain = &stream_chains_.emplace(streamed.xid(), limits_);
  ASSIGN_OR_RETURN(const bool complete, chain->decode(streamed.frame()));
  StreamedFrame received;
  received.xid = streamed.xid();
  received.frame.Swap(streamed.mutable_frame());
  if (!complete) return received;
  if (!proto::parse_descriptions(chain->batch(), received.described))
    return unreadable("a streamed batch does not parse");
  return received;
}

}  // namespace bitacora::transport
