#include "transport/copy_frames.h"

#include <utility>

namespace bitacora::transport {
namespace {

constexpr std::chrono::seconds kAdaptInterval{1};

// A level that is found while a table is read is to count for the same table: contexts are short.
FrameLimits with_short_contexts(FrameLimits limits) {
  limits.context_bytes = limits.level_bytes;
  return limits;
}

}  // namespace

CopyFrames::CopyFrames(std::optional<int> zstd_level, FrameLimits limits, Send send)
    : frame_bytes_(limits.raw_bytes_max),
      level_(zstd_level),
      next_adapt_(Clock::now() + kAdaptInterval),
      encoder_(level_.level(), with_short_contexts(limits)),
      send_(std::move(send)) {}

Result<void> CopyFrames::add(std::string_view piece) {
  if (rest_.size() + piece.size() >= frame_bytes_ && !rest_.empty()) {
    const auto filling = piece.substr(0, frame_bytes_ - rest_.size());
    piece.remove_prefix(filling.size());
    rest_.append(filling);
    RETURN_IF_ERROR(flush());
  }
  for (; piece.size() >= frame_bytes_; piece.remove_prefix(frame_bytes_)) {
    RETURN_IF_ERROR(send(piece.substr(0, frame_bytes_)));
  }
  rest_.append(piece);
  return {};
}

Result<void> CopyFrames::flush() {
  if (rest_.empty()) return {};
  RETURN_IF_ERROR(send(rest_));
  rest_.clear();
  return {};
}

// Each is a batch of its own, so that the receiver need not hold more than one frame.
Result<void> CopyFrames::send(std::string_view raw) {
  level_.spend_on(&SendingTime::waiting);  // for the source
  auto sent = encoder_.encode(raw, MasterLsn{}, [this](pb::Frame& frame) {
    level_.spend_on(&SendingTime::compressing);
    return send_(frame);
  });
  level_.spend_on(&SendingTime::sending);
  if (Clock::now() >= next_adapt_) adapt_level();
  return sent;
}

void CopyFrames::adapt_level() {
  next_adapt_ = Clock::now() + kAdaptInterval;
  if (level_.adapt()) encoder_.set_level(level_.level());
}

}  // namespace bitacora::transport
