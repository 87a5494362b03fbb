// How much may be on its way unacknowledged, in frames and in bytes. Pure: no clock, no lock.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>

namespace bitacora::transport {

struct InflightLimits {
  std::size_t frames_max = 1024;
  std::size_t bytes_max = 8u << 20;  // compressed
};

class InflightWindow {
 public:
  explicit InflightWindow(InflightLimits limits = {}) : limits_(limits) {}

  // A frame larger than the bound passes alone.
  bool has_room() const;
  void on_sent(std::uint64_t sequence, std::size_t bytes);

  // Everything up to `sequence` arrived. False when that frame was never sent: a broken peer.
  bool on_acknowledged(std::uint64_t sequence);

  std::size_t frames() const { return sent_.size(); }
  std::size_t bytes() const { return bytes_; }

 private:
  struct Sent {
    std::uint64_t sequence;
    std::size_t bytes;
  };

  InflightLimits limits_;
  std::deque<Sent> sent_;
  std::size_t bytes_ = 0;
  std::uint64_t last_sent_ = 0;
};

}  // namespace bitacora::transport
