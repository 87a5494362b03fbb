#include "transport/change_feed.h"

#include <algorithm>
#include <tuple>
#include <utility>

namespace bitacora::transport {
namespace {

// How long a reader at the spool's tail waits before it looks again, when nothing is put.
constexpr std::chrono::milliseconds kTailInterval{20};

bool not_behind(const SpoolPlace& place, const SpoolPlace& other) {
  return std::tie(place.life, place.bytes) >= std::tie(other.life, other.bytes);
}

}  // namespace

void ChangeFeed::begin_connection() {
  {
    const std::lock_guard lock(mutex_);
    if (transaction_open_) {
      abandoned_ = true;
      live_ = false;
      queue_.clear();
      bytes_ = 0;
    }
    transaction_open_ = false;
    put_ = {};
  }
  changed_.notify_all();
}

void ChangeFeed::put(SpoolBatch batch, bool transaction_open) {
  {
    const std::lock_guard lock(mutex_);
    put_ = batch.place;
    transaction_open_ = transaction_open;
    if (live_ && !not_behind(consumed_, batch.place)) {
      live_ = queue_.empty() || bytes_ + batch.bytes <= bytes_max_;
      if (live_) {
        bytes_ += batch.bytes;
        queue_.push_back(std::move(batch));
      }
    }
  }
  changed_.notify_all();
}

void ChangeFeed::put_spooled(const SpoolPlace& place) {
  {
    const std::lock_guard lock(mutex_);
    put_ = place;
    transaction_open_ = true;
    if (!not_behind(consumed_, place)) live_ = false;
  }
  changed_.notify_all();
}

Result<void> ChangeFeed::seek(MasterLsn position) {
  {
    const std::lock_guard lock(mutex_);
    live_ = false;
    abandoned_ = false;
    queue_.clear();
    bytes_ = 0;
    consumed_ = {};
  }
  ASSIGN_OR_RETURN(reader_, spool_.read_from(position));
  return {};
}

bool ChangeFeed::everything_consumed() const { return not_behind(consumed_, put_); }

Result<FeedEvent> ChangeFeed::next(Clock::time_point deadline) {
  {
    std::unique_lock lock(mutex_);
    auto taken = take_from_memory(lock, deadline);
    if (taken) return std::move(*taken);
  }
  return take_from_spool(deadline);
}

// Empty when the spool is to be read. What was kept before the queue overflowed comes first.
std::optional<FeedEvent> ChangeFeed::take_from_memory(std::unique_lock<std::mutex>& lock,
                                                      Clock::time_point deadline) {
  changed_.wait_until(lock, deadline,
                      [&] { return woken_ || abandoned_ || !live_ || !queue_.empty(); });
  if (std::exchange(abandoned_, false)) return FeedEvent(FeedAbandoned{});
  if (!queue_.empty()) {
    SpoolBatch batch = std::move(queue_.front());
    queue_.pop_front();
    bytes_ -= batch.bytes;
    consumed_ = batch.place;
    return FeedEvent(std::move(batch));
  }
  if (std::exchange(woken_, false) || live_) return FeedEvent(FeedQuiet{});
  return std::nullopt;
}

Result<FeedEvent> ChangeFeed::take_from_spool(Clock::time_point deadline) {
  if (!reader_) {
    const auto place = [&] {
      const std::lock_guard lock(mutex_);
      return consumed_;
    }();
    ASSIGN_OR_RETURN(reader_, spool_.read_after(place));
  }
  ASSIGN_OR_RETURN(auto event, reader_->next());
  if (std::holds_alternative<SpoolAbandoned>(event)) return FeedEvent(FeedAbandoned{});
  std::unique_lock lock(mutex_);
  if (auto* batch = std::get_if<SpoolBatch>(&event)) {
    consumed_ = batch->place;
    return FeedEvent(std::move(*batch));
  }
  if (!abandoned_ && everything_consumed()) {
    live_ = true;
    reader_.reset();
  } else {
    changed_.wait_until(lock, std::min(deadline, Clock::now() + kTailInterval));
  }
  return FeedEvent(FeedQuiet{});
}

// Before anything was put only the spool knows.
bool ChangeFeed::more_waiting() const {
  MasterLsn reached;
  {
    const std::lock_guard lock(mutex_);
    if (live_ || !queue_.empty()) return !queue_.empty();
    if (!everything_consumed()) return true;
    reached = consumed_.reached;
  }
  return reached < spool_.end_lsn();
}

bool ChangeFeed::live() const {
  const std::lock_guard lock(mutex_);
  return live_;
}

void ChangeFeed::wake() {
  {
    const std::lock_guard lock(mutex_);
    woken_ = true;
  }
  changed_.notify_all();
}

}  // namespace bitacora::transport
