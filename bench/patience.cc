#include "bench/patience.h"

#include <fmt/format.h>

#include <csignal>
#include <stdexcept>
#include <thread>
#include <utility>

namespace bitacora::bench {
namespace {

volatile std::sig_atomic_t interrupted = 0;

}  // namespace

void catch_interrupts() {
  for (const int number : {SIGINT, SIGTERM, SIGHUP})
    std::signal(number, [](int) { interrupted = 1; });
}

void await(const std::string& what, const std::function<bool()>& reached,
           std::chrono::milliseconds timeout, std::chrono::milliseconds interval) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  while (!reached()) {
    if (interrupted != 0) throw std::runtime_error("interrupted");
    if (std::chrono::steady_clock::now() >= deadline)
      throw std::runtime_error(fmt::format("{}: not after {} s", what, timeout.count() / 1000));
    std::this_thread::sleep_for(interval);
  }
}

std::function<void()> seldom(std::function<void()> check, std::chrono::milliseconds interval) {
  using Clock = std::chrono::steady_clock;
  return [check = std::move(check), interval, looked_at = Clock::now()]() mutable {
    if (Clock::now() - looked_at < interval) return;
    check();
    looked_at = Clock::now();
  };
}

}  // namespace bitacora::bench
