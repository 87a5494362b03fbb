// Who reads the slot: the live reader near the head of the WAL, the catch-up reader far behind it.
// Pure.
#pragma once

#include <cctype>
#include <chrono>
#include <cstdint>
#include <string>
#include <utility>

namespace bitacora::engine {

struct Backlog {
  std::uint64_t bytes = 0;             // of WAL, not read yet
  std::uint64_t read_for_nothing = 0;  // before it: read anew by whoever begins (see restart_lsn)
};

struct ReaderChoiceOptions {
  std::uint64_t far_bytes = 4u << 20;             // a run begins as a catch-up
  std::uint64_t fallen_behind_bytes = 16u << 20;  // the live reader hands over
  // An open transaction that began so far back is the live reader's, which reads its WAL once.
  std::uint64_t read_for_nothing_max = 256u << 20;
  std::chrono::seconds declined_time{60};  // after a catch-up could not be
};

// One thread owns it.
class ReaderChoice {
 public:
  using Clock = std::chrono::steady_clock;

  explicit ReaderChoice(ReaderChoiceOptions options = {}) : options_(options) {}

  bool begins_with_catch_up(const Backlog& backlog, Clock::time_point now) const {
    return is_worth(backlog, options_.far_bytes, now);
  }
  // More is asked for, since both have to find their place in the WAL.
  bool has_fallen_behind(const Backlog& backlog, Clock::time_point now) const {
    return is_worth(backlog, options_.fallen_behind_bytes, now);
  }
  // Whether that has to be said: not when it was for the same reason the last time, up to numbers
  // (a temporary file's name has some).
  bool on_declined(std::string reason, Clock::time_point now) {
    declined_until_ = now + options_.declined_time;
    std::erase_if(reason, [](unsigned char c) { return std::isdigit(c) != 0; });
    return reason != std::exchange(declined_for_, reason);
  }
  void on_caught_up() { declined_for_.clear(); }

 private:
  bool is_worth(const Backlog& backlog, std::uint64_t bytes_min, Clock::time_point now) const {
    return backlog.bytes >= bytes_min &&
           backlog.read_for_nothing <= options_.read_for_nothing_max && now >= declined_until_;
  }

  ReaderChoiceOptions options_;
  Clock::time_point declined_until_;
  std::string declined_for_;
};

}  // namespace bitacora::engine
