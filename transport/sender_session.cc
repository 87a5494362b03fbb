#include "transport/sender_session.h"

#include <fmt/format.h>

#include "proto/relation.h"

namespace bitacora::transport {

Result<pb::Hello> read_greeting(const pb::ReceiverMessage& first) {
  if (!first.has_hello()) {
    return Error{ErrorCode::kConfiguration, "the first message was no Hello",
                 "connect with bitacora receiver"};
  }
  if (first.hello().wire_version() != proto::kWireVersion) {
    return Error{ErrorCode::kConfiguration,
                 fmt::format("the receiver speaks wire version {}, the sender {}",
                             first.hello().wire_version(), proto::kWireVersion),
                 "run the same version of bitacora on both sides"};
  }
  return first.hello();
}

void SenderSession::on_sent(const pb::Frame& frame) {
  window_.on_sent(++sent_, frame.payload().size());
}

SenderAction SenderSession::on_message(const pb::ReceiverMessage& message) {
  if (message.has_withdraw()) return Forget{};
  if (!message.has_ack()) return HangUp{};
  const pb::Ack& ack = message.ack();
  misbehaved_ = !window_.on_acknowledged(ack.frames());
  if (misbehaved_) return HangUp{};
  return NotePositions{
      {MasterLsn{ack.received_lsn()}, MasterLsn{ack.flushed_lsn()}, MasterLsn{ack.applied_lsn()}}};
}

Error SenderSession::ending() const {
  return {ErrorCode::kNetwork,
          misbehaved_ ? "it acknowledged a frame that was never sent" : "the connection ended",
          {},
          Recovery::kRetry};
}

}  // namespace bitacora::transport
