// One receiver's connection as the sender sees it: what the receiver's messages mean, and when the
// next frame may go. Pure: messages in, actions out; no clock, no I/O, no lock.
#pragma once

#include <variant>

#include "base/error.h"
#include "proto/replication.pb.h"
#include "transport/inflight_window.h"
#include "transport/subscription_hub.h"

namespace bitacora::transport {

// What a connection begins with. kConfiguration: it was something else, or of another version.
Result<pb::Hello> read_greeting(const pb::ReceiverMessage& first);

// The receiver holds these; frames may fit into the window now.
struct NotePositions {
  ReceiverPositions positions;
};

// It keeps nothing of this stream: forget it if it is new, then end the connection.
struct Forget {};

// It broke the protocol or speaks of what we do not know: end the connection.
struct HangUp {};

using SenderAction = std::variant<NotePositions, Forget, HangUp>;

class SenderSession {
 public:
  explicit SenderSession(InflightLimits limits = {}) : window_(limits) {}

  // The next frame may be sent.
  bool has_room() const { return window_.has_room(); }
  void on_sent(const pb::Frame& frame);

  SenderAction on_message(const pb::ReceiverMessage& message);

  // Why a connection that ended did: kNetwork, healing by a new one.
  Error ending() const;

 private:
  InflightWindow window_;
  std::uint64_t sent_ = 0;  // frames
  bool misbehaved_ = false;
};

}  // namespace bitacora::transport
