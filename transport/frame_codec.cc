#include "transport/frame_codec.h"

#include <algorithm>
#include <limits>
#include <utility>

#include <fmt/format.h>

#include "base/bytes.h"
#include "base/check.h"
#include "transport/crc32c.h"

namespace bitacora::transport {
namespace {

constexpr std::string_view kZstdMagic("\x28\xB5\x2F\xFD", 4);

// A batch buffer grown larger than so many frames is given back before the next batch.
constexpr std::size_t kFramesKept = 16;

enum FrameFlags : std::uint8_t { kContextReset = 1u << 0, kMore = 1u << 1 };

// Incompressible bytes grow: zstd stores them with a header per block.
std::size_t payload_bytes_max(const FrameLimits& limits) {
  return ZSTD_compressBound(limits.raw_bytes_max);
}

Error refused(const pb::Frame& frame, std::string_view what) {
  return Error{ErrorCode::kNetwork, fmt::format("frame {} refused: {}", frame.sequence(), what),
               "it heals by a new connection; if it comes back, compare the versions of both sides",
               Recovery::kRetry};
}

void set_parameter(ZSTD_CCtx* context, ZSTD_cParameter parameter, int value) {
  CHECK(ZSTD_isError(ZSTD_CCtx_setParameter(context, parameter, value)) == 0);
}

}  // namespace

std::uint32_t frame_crc32c(const pb::Frame& frame) {
  unsigned flags = 0;
  if (frame.context_reset()) flags |= kContextReset;
  if (frame.more()) flags |= kMore;
  std::string fields;
  append_big_endian(fields, frame.sequence());
  append_big_endian(fields, frame.end_lsn());
  append_big_endian(fields, frame.raw_bytes());
  append_big_endian(fields, static_cast<std::uint8_t>(flags));
  return Crc32c().extend(fields).extend(frame.payload()).value();
}

FrameEncoder::FrameEncoder(int level, FrameLimits limits)
    : limits_(limits),
      context_(ZSTD_createCCtx()),
      level_(level),
      context_level_(level),
      compressed_(payload_bytes_max(limits), '\0') {
  CHECK(context_ != nullptr);
  CHECK(limits_.raw_bytes_max > 0);
  CHECK(limits_.raw_bytes_max <= std::numeric_limits<std::uint32_t>::max());
  set_parameter(context_.get(), ZSTD_c_compressionLevel, level);
  set_parameter(context_.get(), ZSTD_c_windowLog, limits_.window_log_max);
}

Result<void> FrameEncoder::encode(std::string_view batch, MasterLsn end_lsn,
                                  const std::function<Result<void>(pb::Frame&)>& send) {
  if (batch.size() > limits_.batch_bytes_max) {
    return Error{ErrorCode::kInternal, fmt::format("a batch of {} bytes is over the limit of {}",
                                                   batch.size(), limits_.batch_bytes_max)};
  }
  bool reset = reset_context();
  at_cut_point_ = end_lsn.valid();
  do {
    const auto raw = batch.substr(0, limits_.raw_bytes_max);
    batch.remove_prefix(raw.size());
    pb::Frame frame;
    frame.set_sequence(++sequence_);
    frame.set_context_reset(std::exchange(reset, false));
    frame.set_more(!batch.empty());
    frame.set_end_lsn(batch.empty() ? end_lsn.value : 0);
    frame.set_raw_bytes(static_cast<std::uint32_t>(raw.size()));
    RETURN_IF_ERROR(compress(raw, *frame.mutable_payload()));
    frame.set_crc32c(frame_crc32c(frame));
    RETURN_IF_ERROR(send(frame));
  } while (!batch.empty());
  return {};
}

// True when the next frame starts a new context.
bool FrameEncoder::reset_context() {
  const bool other_level = level_ != context_level_ && context_bytes_ >= limits_.level_bytes;
  const bool enough = context_bytes_ >= limits_.context_bytes || other_level;
  const bool too_much = context_bytes_ / 2 >= limits_.context_bytes;
  if (sequence_ != 0 && !(enough && at_cut_point_) && !too_much) return false;
  ZSTD_CCtx_reset(context_.get(), ZSTD_reset_session_only);
  set_parameter(context_.get(), ZSTD_c_compressionLevel, level_);
  context_level_ = level_;
  context_bytes_ = 0;
  return true;
}

Result<void> FrameEncoder::compress(std::string_view raw, std::string& out) {
  ZSTD_inBuffer input{raw.data(), raw.size(), 0};
  ZSTD_outBuffer output{compressed_.data(), compressed_.size(), 0};
  const auto left = ZSTD_compressStream2(context_.get(), &output, &input, ZSTD_e_flush);
  if (ZSTD_isError(left) != 0) {
    return Error{ErrorCode::kInternal, fmt::format("zstd: {}", ZSTD_getErrorName(left))};
  }
  CHECK(left == 0);
  CHECK(input.pos == raw.size());
  context_bytes_ += output.pos;
  out.assign(compressed_, 0, output.pos);
  return {};
}

FrameDecoder::FrameDecoder(FrameLimits limits, std::uint64_t first_sequence)
    : limits_(limits), context_(ZSTD_createDCtx()), sequence_(first_sequence - 1) {
  CHECK(context_ != nullptr);
  CHECK(ZSTD_isError(ZSTD_DCtx_setParameter(context_.get(), ZSTD_d_windowLogMax,
                                            limits_.window_log_max)) == 0);
}

Result<bool> FrameDecoder::decode(const pb::Frame& frame) {
  if (failed_) return refused(frame, "an earlier frame of this connection was");
  failed_ = true;  // until this frame has passed
  if (complete_) begin_batch();
  RETURN_IF_ERROR(check(frame));
  RETURN_IF_ERROR(decompress(frame));
  sequence_ = frame.sequence();
  begun_ = true;
  complete_ = !frame.more();
  failed_ = false;
  return complete_;
}

void FrameDecoder::begin_batch() {
  if (batch_.capacity() > kFramesKept * limits_.raw_bytes_max) std::string().swap(batch_);
  batch_.clear();
}

Result<void> FrameDecoder::check(const pb::Frame& frame) const {
  if (frame.sequence() != sequence_ + 1) {
    return refused(frame, fmt::format("{} was expected", sequence_ + 1));
  }
  if (frame.raw_bytes() > limits_.raw_bytes_max) {
    return refused(frame, fmt::format("{} raw bytes, the limit is {}", frame.raw_bytes(),
                                      limits_.raw_bytes_max));
  }
  if (frame.payload().size() > payload_bytes_max(limits_)) {
    return refused(frame, fmt::format("a payload of {} bytes, the limit is {}",
                                      frame.payload().size(), payload_bytes_max(limits_)));
  }
  if (batch_.size() + frame.raw_bytes() > limits_.batch_bytes_max) {
    return refused(frame, fmt::format("its batch is over {} bytes", limits_.batch_bytes_max));
  }
  if (frame_crc32c(frame) != frame.crc32c()) return refused(frame, "wrong checksum");
  if (!begun_ && !frame.context_reset()) return refused(frame, "no context to continue");
  if (!complete_ && frame.context_reset()) return refused(frame, "a reset inside a batch");
  if (frame.more() && frame.end_lsn() != 0) return refused(frame, "a position inside a batch");
  return {};
}

Result<void> FrameDecoder::decompress(const pb::Frame& frame) {
  if (frame.context_reset()) {
    ZSTD_DCtx_reset(context_.get(), ZSTD_reset_session_only);
    at_stream_start_ = true;
  }
  const std::string& payload = frame.payload();
  // zstd would also read the formats before version 1, which do not heed the cap on the window.
  if (at_stream_start_ && !payload.empty() && !payload.starts_with(kZstdMagic)) {
    return refused(frame, "not a zstd stream");
  }
  if (!payload.empty()) at_stream_start_ = false;
  const std::size_t before = batch_.size();
  batch_.resize(before + frame.raw_bytes() + 1);  // one more: room to notice what was not announced
  ZSTD_inBuffer input{payload.data(), payload.size(), 0};
  ZSTD_outBuffer output{batch_.data() + before, frame.raw_bytes() + std::size_t{1}, 0};
  while (input.pos < input.size && output.pos < output.size) {
    const auto hint = ZSTD_decompressStream(context_.get(), &output, &input);
    if (ZSTD_isError(hint) != 0) return refused(frame, ZSTD_getErrorName(hint));
    if (hint == 0) return refused(frame, "its zstd stream ends");
  }
  if (output.pos != frame.raw_bytes()) {
    return refused(frame, fmt::format("{} raw bytes announced, not what came out of the payload",
                                      frame.raw_bytes()));
  }
  batch_.resize(before + output.pos);
  return {};
}

}  // namespace bitacora::transport
