// Pieces of COPY's output to full frames.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "transport/adaptive_level.h"
#include "transport/frame_codec.h"

namespace bitacora::transport {

// One per CopyTable call, sending side. Not thread-safe. After an error it is of no more use.
class CopyFrames {
 public:
  // May move the frame away.
  using Send = std::function<Result<void>(pb::Frame&)>;

  // Without a level it finds its own as it goes.
  CopyFrames(std::optional<int> zstd_level, FrameLimits limits, Send send);

  // Sends what makes full frames of raw_bytes_max, keeps the rest. Errors are those of `send`.
  Result<void> add(std::string_view piece);
  // Sends the rest.
  Result<void> flush();

 private:
  using Clock = std::chrono::steady_clock;

  Result<void> send(std::string_view raw);
  void adapt_level();

  const std::size_t frame_bytes_;
  AdaptiveLevel level_;
  Clock::time_point next_adapt_;
  FrameEncoder encoder_;
  Send send_;
  std::string rest_;  // always less than a frame
};

}  // namespace bitacora::transport
