#include "bench/patience.h"

#include <fmt/format.h>

#include <csignal>
#include <optional>
#include <stdexcept>
#include <thread>
#include <utility>

#include "engine/child_process.h"

namespace bitacora::bench {
namespace {

constexpr std::chrono::minutes kProgramPatience{30};

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

std::string run_to_end(std::vector<std::string> argv, const std::vector<std::string>& environment,
                       const std::function<void()>& meanwhile) {
  const auto name = argv.front();
  engine::ChildProcess process(std::move(argv), environment);
  std::optional<int> exit_code;
  await(
      name + "'s end",
      [&] {
        if (meanwhile) meanwhile();
        exit_code = process.wait(std::chrono::milliseconds(0));
        return exit_code.has_value();
      },
      kProgramPatience);
  if (exit_code != 0) throw std::runtime_error(fmt::format("{}: {}", name, process.error_output()));
  return process.output();
}

}  // namespace bitacora::bench
