// Batches to frames and back: zstd with one long-lived context per connection, CRC-32C, sequence
// numbers. proto/FORMAT.md describes the bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include <zstd.h>

#include "base/error.h"
#include "base/lsn.h"
#include "proto/replication.pb.h"

namespace bitacora::transport {

struct FrameLimits {
  std::size_t raw_bytes_max = 256u << 10;  // of one frame, decompressed; larger batches are split
  std::size_t batch_bytes_max =
      1100u << 20;          // one PostgreSQL row can be 1 GiB; refused before memory is taken
  int window_log_max = 21;  // of zstd: a receiver sets aside 2 MiB, whatever a frame asks for
  // Compressed; then the encoder starts a new context, and with it the receiver a new spool
  // segment: with the next batch that begins outside transactions, so that the segment can be the
  // first one kept, or with any batch after twice as many.
  std::size_t context_bytes = 16u << 20;
  // Enough for a new context when it is to be of another level.
  std::size_t level_bytes = 2u << 20;
};

// The checksum of a frame's fields and payload.
std::uint32_t frame_crc32c(const pb::Frame& frame);

// One per connection, sending side. Not thread-safe. After an error it is of no more use: the
// receiver lacks what the context has seen.
class FrameEncoder {
 public:
  explicit FrameEncoder(int level, FrameLimits limits = {});

  // From the next context on, which then comes earlier.
  void set_level(int level) { level_ = level; }

  // Splits and compresses one serialized ChangeBatch and hands each frame to `send` in order.
  // `end_lsn` goes onto the last frame (0: the batch completes nothing, or ends in a transaction).
  // Stops at the first error of `send`, which may move the frame away. kInternal: the batch is over
  // batch_bytes_max.
  Result<void> encode(std::string_view batch, MasterLsn end_lsn,
                      const std::function<Result<void>(pb::Frame&)>& send);

 private:
  bool reset_context();
  Result<void> compress(std::string_view raw, std::string& out);

  struct FreeContext {
    void operator()(ZSTD_CCtx* context) const noexcept { ZSTD_freeCCtx(context); }
  };

  FrameLimits limits_;
  std::unique_ptr<ZSTD_CCtx, FreeContext> context_;
  int level_;
  int context_level_;
  std::uint64_t sequence_ = 0;
  std::size_t context_bytes_ = 0;  // compressed since the last reset
  bool at_cut_point_ = false;      // the last batch ended outside transactions
  std::string compressed_;         // room for the largest payload, reused
};

// One per connection, receiving side, or one per segment read from the spool. Not thread-safe.
class FrameDecoder {
 public:
  // The first frame must have this sequence number and reset the context: 1 on a connection, any
  // where a spool segment begins.
  explicit FrameDecoder(FrameLimits limits = {}, std::uint64_t first_sequence = 1);

  // Takes the next frame in. True when it completed a batch, which is then in batch() until the
  // next call. Errors, all kNetwork and healing by a new connection: a gap in the sequence, a wrong
  // checksum, sizes over the limits (checked before memory is taken), bytes that do not decompress
  // to what was announced. After an error every frame is refused.
  Result<bool> decode(const pb::Frame& frame);

  // The serialized ChangeBatch that decode() completed.
  const std::string& batch() const { return batch_; }
  std::uint64_t sequence() const { return sequence_; }

 private:
  void begin_batch();
  Result<void> check(const pb::Frame& frame) const;
  Result<void> decompress(const pb::Frame& frame);

  struct FreeContext {
    void operator()(ZSTD_DCtx* context) const noexcept { ZSTD_freeDCtx(context); }
  };

  FrameLimits limits_;
  std::unique_ptr<ZSTD_DCtx, FreeContext> context_;
  std::uint64_t sequence_ = 0;
  bool begun_ = false;    // a frame has passed
  bool complete_ = true;  // batch_ is whole; the next frame begins another
  bool failed_ = false;
  bool at_stream_start_ = false;  // the context was reset and has seen no byte yet
  std::string batch_;
};

}  // namespace bitacora::transport
