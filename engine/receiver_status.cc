#include "engine/receiver_status.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace bitacora::engine {
namespace {

using Clock = std::chrono::steady_clock;

// Nearer than this to the master's head counts as streaming.
constexpr std::uint64_t kStreamingLagBytes = 1u << 20;

// Frames of unapplied changes that are acknowledged together: few enough for the sender's window.
constexpr std::uint64_t kFramesPerAck = 8;

nlohmann::ordered_json lsn_or_null(MasterLsn lsn) {
  return lsn.valid() ? nlohmann::ordered_json(to_string(lsn)) : nlohmann::ordered_json();
}

}  // namespace

void ReceiverStatus::on_session(MasterLsn from) {
  const std::lock_guard lock(mutex_);
  positions_ = {0, from, from, from};
  connected_ = true;
  woken_ = false;
  last_error_.clear();
}

void ReceiverStatus::on_received(std::uint64_t sequence, MasterLsn received) {
  {
    const std::lock_guard lock(mutex_);
    positions_.sequence = sequence;
    positions_.received = std::max(positions_.received, received);
    wal_lsn_ = std::max(wal_lsn_, positions_.received);
  }
  changed_.notify_all();
}

void ReceiverStatus::on_heartbeat(const pb::Heartbeat& heartbeat) {
  const std::lock_guard lock(mutex_);
  wal_lsn_ = std::max(wal_lsn_, MasterLsn{heartbeat.wal_lsn()});
  master_clock_usec_ = heartbeat.master_clock_usec();
  master_clock_at_ = Clock::now();
}

void ReceiverStatus::on_applied(const Applied& applied) {
  {
    const std::lock_guard lock(mutex_);
    applied_ = applied;
    positions_.applied = applied.applied;
    positions_.flushed = applied.durable;
  }
  changed_.notify_all();
}

void ReceiverStatus::on_session_end() {
  const std::lock_guard lock(mutex_);
  connected_ = false;
  transactions_before_ += std::exchange(applied_.transactions, 0);
  rows_before_ += std::exchange(applied_.rows, 0);
}

void ReceiverStatus::on_stopped() {
  const std::lock_guard lock(mutex_);
  stopped_ = true;
}

void ReceiverStatus::on_error(const std::string& message) {
  const std::lock_guard lock(mutex_);
  last_error_ = message;
}

ReceiverPositions ReceiverStatus::wait_for_change(const ReceiverPositions& known,
                                                  Clock::time_point deadline) {
  std::unique_lock lock(mutex_);
  changed_.wait_until(lock, deadline, [&] {
    return woken_ || positions_.applied != known.applied || positions_.flushed != known.flushed ||
           positions_.sequence >= known.sequence + kFramesPerAck;
  });
  return positions_;
}

void ReceiverStatus::wake() {
  {
    const std::lock_guard lock(mutex_);
    woken_ = true;
  }
  changed_.notify_all();
}

std::string ReceiverStatus::state() const {
  if (stopped_) return "stopped";
  const bool near = bytes_between(positions_.applied, wal_lsn_) < kStreamingLagBytes;
  return connected_ && near ? "streaming" : "catching_up";
}

// The age, by the master's own clock, of the newest transaction that is visible here; zero when
// nothing is missing.
double ReceiverStatus::lag_seconds() const {
  if (positions_.applied >= positions_.received || master_clock_usec_ == 0 ||
      applied_.commit_time_usec == 0)
    return 0;
  const auto since =
      std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - master_clock_at_)
          .count();
  return std::max(
      0.0, static_cast<double>(master_clock_usec_ + since - applied_.commit_time_usec) / 1e6);
}

std::string ReceiverStatus::document() const {
  const std::lock_guard lock(mutex_);
  const nlohmann::ordered_json document = {
      {"role", "receiver"},
      {"name", name_},
      {"state", state()},
      {"received_lsn", lsn_or_null(positions_.received)},
      {"flushed_lsn", lsn_or_null(positions_.flushed)},
      {"applied_lsn", lsn_or_null(positions_.applied)},
      {"lag_bytes", bytes_between(positions_.applied, wal_lsn_)},
      {"lag_seconds", lag_seconds()},
      {"spool_bytes", nullptr},
      {"transactions", transactions_before_ + applied_.transactions},
      {"rows", rows_before_ + applied_.rows},
      {"conflicts", nullptr},
      {"last_error",
       last_error_.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(last_error_)}};
  return document.dump();
}

}  // namespace bitacora::engine
