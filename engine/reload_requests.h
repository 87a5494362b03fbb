// SIGHUP, on its way from whoever receives signals to the sender, which reads its file again.
#pragma once

#include <condition_variable>
#include <mutex>
#include <stop_token>

namespace bitacora::engine {

// Thread-safe. Requests that come before the last one was taken count as one.
class ReloadRequests {
 public:
  void ask() {
    const std::lock_guard lock(mutex_);
    asked_ = true;
    changed_.notify_all();
  }
  // Takes a request, as soon as there is one; false: `stop` came before.
  bool wait(const std::stop_token& stop) {
    std::unique_lock lock(mutex_);
    if (!changed_.wait(lock, stop, [this] { return asked_; })) return false;
    asked_ = false;
    return true;
  }

 private:
  std::mutex mutex_;
  std::condition_variable_any changed_;
  bool asked_ = false;  // guarded by mutex_
};

}  // namespace bitacora::engine
