#include "tests/postgres/process.h"

#include <signal.h>

#include <fmt/format.h>

#include <fstream>
#include <stdexcept>
#include <string>
#include <string_view>

#include "tests/postgres/database.h"

namespace bitacora::harness {
namespace {

// Blocks it, to wait for it, catches or ignores it; all of them are blocked for a moment by who
// starts a process or a thread. Source: proc_pid_status(5).
bool handles(pid_t pid, int number) {
  std::ifstream status(fmt::format("/proc/{}/status", pid));
  for (std::string line; std::getline(status, line);) {
    const auto key = std::string_view(line).substr(0, 7);
    if (key != "SigBlk:" && key != "SigIgn:" && key != "SigCgt:") continue;
    const auto signals = std::stoull(line.substr(7), nullptr, 16);
    const auto has = [&](int each) { return (signals >> (each - 1) & 1) != 0; };
    if (has(number) && !has(SIGUSR2)) return true;
  }
  return false;
}

}  // namespace

void send_signal(Process& process, int number) {
  if (!eventually([&] { return !process.running() || handles(process.pid(), number); }))
    throw std::runtime_error(fmt::format("a process does not handle signal {}", number));
  process.signal(number);
}

std::size_t peak_resident_bytes(pid_t pid) {
  std::ifstream status(fmt::format("/proc/{}/status", pid));
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::stoul(line.substr(6)) << 10;
  }
  return 0;
}

}  // namespace bitacora::harness
