#include "tests/postgres/process.h"

#include <fmt/format.h>

#include <fstream>
#include <string>

namespace bitacora::harness {

std::size_t peak_resident_bytes(pid_t pid) {
  std::ifstream status(fmt::format("/proc/{}/status", pid));
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::stoul(line.substr(6)) << 10;
  }
  return 0;
}

}  // namespace bitacora::harness
