#include "engine/stop_signal.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <ctime>

#include "base/log.h"

namespace bitacora::engine {
namespace {

sigset_t handled_signals(HangUp hang_up) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  if (hang_up == HangUp::kReloads) sigaddset(&signals, SIGHUP);
  return signals;
}

constexpr timespec kPollInterval{0, 200'000'000};
constexpr int kStopRounds = 20;

}  // namespace

StopSignal::StopSignal(HangUp hang_up) {
  const sigset_t signals = handled_signals(hang_up);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  waiter_ = std::jthread([this, signals](const std::stop_token& ended) {
    int rounds_since_stop = 0;
    while (!ended.stop_requested()) {
      const int received = sigtimedwait(&signals, nullptr, &kPollInterval);
      if (source_.stop_requested() && ++rounds_since_stop > kStopRounds) {
        spdlog::warn("event=stop_forced reason=\"a server does not answer\"");
        ::_exit(0);
      }
      if (received < 0) continue;
      if (received == SIGHUP) {
        reloads_.ask();
        continue;
      }
      if (!source_.request_stop()) ::_exit(128 + received);
      spdlog::info("event=stopping signal={}", received == SIGTERM ? "SIGTERM" : "SIGINT");
    }
  });
}

StopSignal::~StopSignal() = default;

}  // namespace bitacora::engine
