// The messages of a connection, checked and decompressed. proto/FORMAT.md describes them.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <variant>

#include "base/error.h"
#include "proto/replication.pb.h"
#include "transport/frame_codec.h"
#include "transport/least_recent.h"
#include "transport/message_encoder.h"

namespace bitacora::transport {

// A frame as it came, checked, and the batch that it completed.
struct ReceivedFrame {
  pb::Frame frame;
  std::shared_ptr<pb::ChangeBatch> changes;  // null: the batch goes on in the next frame
  std::size_t bytes = 0;                     // of the batch, serialized
};

// The same of a transaction in progress, whose rows are looked at when it has committed.
struct StreamedFrame {
  std::uint32_t xid = 0;
  pb::Frame frame;
  pb::ChangeBatch described;  // the relations and types of the batch that it completed
};

struct StreamCommitted {
  std::uint32_t xid = 0;
};
struct StreamAborted {
  std::uint32_t xid = 0;
};

using SenderEvent =
    std::variant<ReceivedFrame, StreamedFrame, StreamCommitted, StreamAborted, pb::Heartbeat>;

// One per connection, receiving side. Not thread-safe.
class MessageDecoder {
 public:
  explicit MessageDecoder(FrameLimits limits = {}) : limits_(limits), chain_(limits) {}

  // Empty: a message of a later version, nothing we know how to use. Errors: those of FrameDecoder,
  // and a batch that does not parse; both heal by a new connection.
  Result<std::optional<SenderEvent>> decode(pb::SenderMessage message);

 private:
  Result<ReceivedFrame> decode_frame(pb::Frame frame);
  Result<StreamedFrame> decode_streamed(pb::StreamedFrame streamed);

  const FrameLimits limits_;
  FrameDecoder chain_;
  LeastRecent<std::uint32_t, FrameDecoder> stream_chains_{kStreamChainsMax};
};

}  // namespace bitacora::transport
