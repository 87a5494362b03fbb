// How hard a connection compresses: level 1 where somebody else needs the processors, more where
// they idle, and much more where the link is what everything waits for. Pure.
#pragma once

#include <chrono>

namespace bitacora::transport {

inline constexpr int kLevelMin = 1;
inline constexpr int kLevelIdleMax = 3;      // processors are idle
inline constexpr int kLevelSlowLinkMax = 9;  // and the link is slow; above, zstd -9 gains little

// What a sending thread spent its time on, since it was asked last.
struct SendingTime {
  std::chrono::nanoseconds compressing{};
  std::chrono::nanoseconds sending{};  // or waiting for the receiver to acknowledge
  std::chrono::nanoseconds waiting{};  // for something to send
};

class CompressionLevel {
 public:
  int level() const { return level_; }

  // One step at a time. `host_idle`: the share of all processors' time that nobody used.
  void adapt(const SendingTime& spent, double host_idle) {
    const auto all = spent.compressing + spent.sending + spent.waiting;
    const bool slow_link = spent.sending * 2 > all;
    const bool compresses_much = spent.compressing * 2 > all;
    const int max = slow_link ? kLevelSlowLinkMax : kLevelIdleMax;
    if (host_idle < kScarce || level_ > max || (compresses_much && !slow_link)) {
      level_ = level_ > kLevelMin ? level_ - 1 : kLevelMin;
    } else if (host_idle > kPlenty && level_ < max && !compresses_much) {
      ++level_;
    }
  }

 private:
  static constexpr double kScarce = 0.15;
  static constexpr double kPlenty = 0.4;

  int level_ = kLevelMin;
};

}  // namespace bitacora::transport
