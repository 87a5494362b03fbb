// The share of the host's processor time that nobody used. Source: proc(5), /proc/stat.
#pragma once

#include <cstdint>
#include <string>

namespace bitacora::transport {

// One thread.
class HostIdle {
 public:
  explicit HostIdle(std::string path = "/proc/stat") : path_(std::move(path)) {}

  // Between 0 and 1, since the last call or, the first time, since the host was started. 0 where
  // the system does not say.
  double share();

 private:
  const std::string path_;
  std::uint64_t idle_ = 0;
  std::uint64_t all_ = 0;
};

}  // namespace bitacora::transport
