// The compression level of one sending thread, found from what the thread spends its time on.
#pragma once

#include <chrono>
#include <optional>
#include <utility>

#include "transport/compression_level.h"
#include "transport/host_idle.h"

namespace bitacora::transport {

// One thread.
class AdaptiveLevel {
 public:
  // `fixed`: is kept.
  explicit AdaptiveLevel(std::optional<int> fixed) : fixed_(fixed) {}

  int level() const { return fixed_.value_or(found_.level()); }

  // The time since this was called last went there.
  void spend_on(std::chrono::nanoseconds SendingTime::*what) {
    const auto now = Clock::now();
    spent_.*what += now - std::exchange(spent_until_, now);
  }

  // To be called once a second. True: it is another level now.
  bool adapt() {
    if (fixed_) return false;
    const int before = found_.level();
    found_.adapt(std::exchange(spent_, {}), host_idle_.share());
    return found_.level() != before;
  }

 private:
  using Clock = std::chrono::steady_clock;

  const std::optional<int> fixed_;
  CompressionLevel found_;
  HostIdle host_idle_;
  SendingTime spent_;
  Clock::time_point spent_until_ = Clock::now();
};

}  // namespace bitacora::transport
