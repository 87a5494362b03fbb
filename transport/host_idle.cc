#include "transport/host_idle.h"

#include <fstream>

namespace bitacora::transport {

double HostIdle::share() {
  std::ifstream file(path_);
  std::string cpu;
  file >> cpu;
  std::uint64_t idle = 0;
  std::uint64_t all = 0;
  std::uint64_t ticks = 0;
  // user nice system idle iowait irq softirq steal; guests are in user already.
  for (int i = 0; i < 8 && file >> ticks; ++i) {
    all += ticks;
    if (i == 3 || i == 4) idle += ticks;
  }
  if (cpu != "cpu" || all <= all_ || idle < idle_) return 0;
  const auto share = static_cast<double>(idle - idle_) / static_cast<double>(all - all_);
  idle_ = idle;
  all_ = all;
  return share;
}

}  // namespace bitacora::transport
