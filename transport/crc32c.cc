#include "transport/crc32c.h"

#include <isa-l/crc.h>

#include <limits>

#include "base/check.h"

namespace bitacora::transport {

Crc32c& Crc32c::extend(std::string_view bytes) {
  CHECK(bytes.size() <= static_cast<std::size_t>(std::numeric_limits<int>::max()));
  // The library only reads, though its signature does not promise it.
  auto* data = reinterpret_cast<unsigned char*>(const_cast<char*>(bytes.data()));
  state_ = crc32_iscsi(data, static_cast<int>(bytes.size()), state_);
  return *this;
}

}  // namespace bitacora::transport
