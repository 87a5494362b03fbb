// CRC-32C (Castagnoli), the checksum of frames and of the spool's records.
#pragma once

#include <cstdint>
#include <string_view>

namespace bitacora::transport {

// Over any number of pieces, as if they were one.
class Crc32c {
 public:
  Crc32c& extend(std::string_view bytes);
  std::uint32_t value() const { return ~state_; }

 private:
  std::uint32_t state_ = ~0u;
};

}  // namespace bitacora::transport
