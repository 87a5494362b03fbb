// A queue between two threads, bounded in bytes. Waits end at a deadline or when the queue closes.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <optional>
#include <utility>

namespace bitacora {

enum class Pushed { kYes, kTimedOut, kClosed };

// Thread-safe. An item larger than the bound passes alone. After close() pushes are refused and the
// items still inside are popped before pop() answers nullopt.
template <class T>
class BoundedQueue {
 public:
  using Clock = std::chrono::steady_clock;

  explicit BoundedQueue(std::size_t bytes_max) : bytes_max_(bytes_max) {}

  // On kTimedOut and kClosed the item is untouched and still the caller's.
  Pushed push(T& item, std::size_t bytes, Clock::time_point deadline) {
    std::unique_lock lock(mutex_);
    const auto fits = [&] { return closed_ || items_.empty() || bytes_ + bytes <= bytes_max_; };
    if (!room_.wait_until(lock, deadline, fits)) return Pushed::kTimedOut;
    if (closed_) return Pushed::kClosed;
    bytes_ += bytes;
    items_.emplace_back(std::move(item), bytes);
    lock.unlock();
    ready_.notify_one();
    return Pushed::kYes;
  }

  // At once, past the bound if need be; false: it is closed, and the item dropped.
  bool put_beyond(T item, std::size_t bytes) {
    std::unique_lock lock(mutex_);
    if (closed_) return false;
    bytes_ += bytes;
    items_.emplace_back(std::move(item), bytes);
    lock.unlock();
    ready_.notify_one();
    return true;
  }

  // Empty at the deadline, or when closed and drained (see closed()).
  std::optional<T> pop(Clock::time_point deadline) {
    std::unique_lock lock(mutex_);
    ready_.wait_until(lock, deadline, [&] { return closed_ || !items_.empty(); });
    if (items_.empty()) return std::nullopt;
    auto [item, bytes] = std::move(items_.front());
    items_.pop_front();
    bytes_ -= bytes;
    lock.unlock();
    room_.notify_one();
    return std::move(item);
  }

  bool empty() const {
    const std::lock_guard lock(mutex_);
    return items_.empty();
  }

  std::size_t bytes() const {
    const std::lock_guard lock(mutex_);
    return bytes_;
  }

  void close() {
    {
      const std::lock_guard lock(mutex_);
      closed_ = true;
    }
    room_.notify_all();
    ready_.notify_all();
  }

  bool closed() const {
    const std::lock_guard lock(mutex_);
    return closed_;
  }

 private:
  const std::size_t bytes_max_;
  mutable std::mutex mutex_;
  std::condition_variable room_;
  std::condition_variable ready_;
  // Guarded by mutex_:
  std::deque<std::pair<T, std::size_t>> items_;
  std::size_t bytes_ = 0;
  bool closed_ = false;
};

}  // namespace bitacora
