// A sleep that a stop ends.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <stop_token>

namespace bitacora {

// False when `stop` ended it early.
inline bool interruptible_sleep(std::chrono::milliseconds duration, const std::stop_token& stop) {
  std::mutex mutex;
  std::condition_variable_any never_notified;
  std::unique_lock lock(mutex);
  return !never_notified.wait_for(lock, stop, duration, [&] { return stop.stop_requested(); });
}

}  // namespace bitacora
