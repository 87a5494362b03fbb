#include "wal/wake_up.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cstdint>

#include "base/check.h"

namespace bitacora::wal {

WakeUp::WakeUp() : descriptor_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  CHECK(descriptor_ >= 0);
}

WakeUp::~WakeUp() { ::close(descriptor_); }

void WakeUp::signal() {
  const std::uint64_t one = 1;
  // A full counter (EAGAIN) is still readable, so the poll ends all the same.
  [[maybe_unused]] const auto written = ::write(descriptor_, &one, sizeof one);
}

void WakeUp::clear() {
  std::uint64_t count = 0;
  [[maybe_unused]] const auto read = ::read(descriptor_, &count, sizeof count);
}

}  // namespace bitacora::wal
