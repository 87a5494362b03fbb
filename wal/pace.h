// When what was read from the slot goes on to the receivers. A transaction that has just been
// committed goes at once. One that comes late, because the slot has a backlog, is held for a
// moment: many in one batch cost both sides a fraction of what they cost one by one, and so the
// backlog goes.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

#include "wal/batch_builder.h"

namespace bitacora::wal {

struct PaceOptions {
  std::chrono::milliseconds late{100};               // so long after its commit
  std::chrono::milliseconds company_wait{5};         // then it is held for others, so long at most
  std::size_t company_bytes = 64u << 10;             // or until there is so much
  std::chrono::milliseconds idle_position_wait{20};  // a position waits for changes to travel with
};

// One thread owns it.
class Pace {
 public:
  using Clock = std::chrono::steady_clock;

  explicit Pace(PaceOptions options = {}) : options_(options) {}

  // A transaction comes in; both times by the master's clock.
  void on_begin(std::int64_t commit_time_usec, std::int64_t sent_usec);

  // Whether what the builder holds goes on now. Not inside of a transaction: the walsender sends it
  // message by message, but whole; its end is already on the way, and half of it is of no use to
  // anybody.
  bool due(const BatchBuilder& builder, Clock::time_point now);

  bool late() const { return late_; }
  bool holding() const { return holding_since_ != Clock::time_point{}; }
  // What is held is due after so long at most.
  std::chrono::milliseconds patience() const {
    return only_a_position_ ? options_.idle_position_wait : options_.company_wait;
  }

 private:
  PaceOptions options_;
  bool late_ = false;
  bool only_a_position_ = false;
  Clock::time_point holding_since_;  // zero: nothing is held
};

}  // namespace bitacora::wal
