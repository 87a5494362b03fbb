// Batches to the messages of a connection. proto/FORMAT.md describes them.
#pragma once

#include <cstdint>
#include <functional>

#include "base/error.h"
#include "proto/batch.h"
#include "proto/replication.pb.h"
#include "transport/frame_codec.h"
#include "transport/least_recent.h"

namespace bitacora::transport {

// Chains of streamed transactions that go on from block to block; one more of them begins anew
// with each block. Each takes about a megabyte on either side.
inline constexpr std::size_t kStreamChainsMax = 16;
inline constexpr int kStreamWindowLog = 19;

// One per connection, sending side. Not thread-safe. After an error it is of no more use.
class MessageEncoder {
 public:
  // May move the message away.
  using Send = std::function<Result<void>(pb::SenderMessage& message)>;

  explicit MessageEncoder(int level, FrameLimits limits = {});

  // From the next contexts on.
  void set_level(int level);

  // Stops at the first error of `send`. kInternal: the batch is over batch_bytes_max.
  Result<void> encode(const proto::EncodedBatch& batch, const Send& send);

 private:
  Result<void> encode_frames(const std::string& bytes, MasterLsn end_lsn, const Send& send);
  Result<void> encode_part(const proto::EncodedBatch& batch, const Send& send);
  Result<void> encode_commit(const proto::EncodedBatch& batch, const Send& send);
  Result<void> encode_abort(std::uint32_t xid, const Send& send);

  int level_;
  const FrameLimits limits_;
  FrameEncoder chain_;
  LeastRecent<std::uint32_t, FrameEncoder> stream_chains_{kStreamChainsMax};
};

}  // namespace bitacora::transport
