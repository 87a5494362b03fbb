// Waiting times between reconnects: doubling, capped, for ever. Pure: the caller sleeps.
#pragma once

#include <algorithm>
#include <chrono>

namespace bitacora {

class Backoff {
 public:
  explicit Backoff(std::chrono::milliseconds first = std::chrono::milliseconds(100),
                   std::chrono::milliseconds largest = std::chrono::milliseconds(5000))
      : first_(first), largest_(largest), next_(first) {}

  std::chrono::milliseconds next() {
    const auto now = next_;
    next_ = std::min(next_ * 2, largest_);
    return now;
  }

  void reset() { next_ = first_; }

 private:
  std::chrono::milliseconds first_;
  std::chrono::milliseconds largest_;
  std::chrono::milliseconds next_;
};

}  // namespace bitacora
