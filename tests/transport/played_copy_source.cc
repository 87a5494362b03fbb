#include "tests/transport/played_copy_source.h"

#include <algorithm>
#include <chrono>

namespace bitacora::transport {
namespace {

constexpr std::chrono::seconds kPatience{20};

Error never(const char* what) { return {ErrorCode::kInternal, what}; }

}  // namespace

void Noted::note(const std::string& what) {
  {
    const std::lock_guard lock(mutex_);
    noted_.push_back(what);
  }
  changed_.notify_all();
}

bool Noted::wait_for(const std::string& what, int times) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, kPatience, [&] { return count(what) >= times; });
}

int Noted::times(const std::string& what) {
  const std::lock_guard lock(mutex_);
  return count(what);
}

int Noted::count(const std::string& what) const {
  return static_cast<int>(std::count(noted_.begin(), noted_.end(), what));
}

void PlayedCopySource::Parts::cancel() {
  noted_.note("cancelled");
  {
    const std::lock_guard lock(mutex_);
    cancelled_ = true;
  }
  changed_.notify_all();
}

Error PlayedCopySource::Parts::blocked_until_cancelled() {
  noted_.note("blocked");
  std::unique_lock lock(mutex_);
  if (!changed_.wait_for(lock, kPatience, [this] { return cancelled_; }))
    return never("nobody cancels");
  return Error{ErrorCode::kMaster, "canceling statement due to user request"};
}

Result<std::unique_ptr<CopyParts>> PlayedCopySource::open(const pb::CopyOpening& /*opening*/,
                                                          const Peer& /*peer*/) {
  if (refuse_open) return *refuse_open;
  noted.note("opened");
  return std::unique_ptr<CopyParts>(std::make_unique<Parts>(noted, on_read));
}

Error PlayedCopySource::blocked_until_stopped(const std::stop_token& stop) {
  noted.note("blocked");
  std::mutex mutex;
  std::condition_variable_any never_notified;
  std::unique_lock lock(mutex);
  if (!never_notified.wait_for(lock, stop, kPatience, [&] { return stop.stop_requested(); }))
    return never("nobody stops it");
  noted.note("stopped");
  return Error{ErrorCode::kMaster, "stopped", {}, Recovery::kRetry};
}

}  // namespace bitacora::transport
