// Lets another thread end a poll(): an eventfd.
#pragma once

namespace bitacora::wal {

// signal() is thread-safe and async-signal-safe; the rest belongs to the polling thread.
class WakeUp {
 public:
  WakeUp();
  ~WakeUp();
  WakeUp(const WakeUp&) = delete;
  WakeUp& operator=(const WakeUp&) = delete;

  void signal();
  void clear();  // forgets the signals so far
  int descriptor() const { return descriptor_; }

 private:
  int descriptor_;
};

}  // namespace bitacora::wal
