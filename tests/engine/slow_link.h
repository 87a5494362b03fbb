// A TCP relay that can be made slow: the link to a receiver that does not keep pace.
#pragma once

#include <atomic>
#include <cstddef>
#include <list>
#include <stop_token>
#include <string>
#include <thread>

#include "base/descriptor.h"

namespace bitacora::harness {

// What arrives at address() goes on to `target` (an IPv4 address and a port), and back. Fast until
// it is throttled. The destructor cuts every connection. One thread calls.
class SlowLink {
 public:
  explicit SlowLink(const std::string& target);

  std::string address() const;
  // From `target` on its way back, all connections together; the other direction stays fast. It
  // holds no more than a few kB of its own.
  void throttle(std::size_t bytes_per_second) { bytes_per_second_ = bytes_per_second; }
  void open() { bytes_per_second_ = kFast; }
  std::size_t passed_bytes() const { return passed_bytes_; }

 private:
  static constexpr std::size_t kFast = 0;

  void accept(const std::stop_token& stop);
  void relay(const Descriptor& dialled, const std::stop_token& stop);

  const std::string target_;
  Descriptor listener_;
  int port_ = 0;
  std::atomic<std::size_t> bytes_per_second_ = kFast;
  std::atomic<std::size_t> passed_bytes_ = 0;
  std::list<std::jthread> relays_;  // accepting_'s
  std::jthread accepting_;
};

}  // namespace bitacora::harness
