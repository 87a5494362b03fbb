#include "engine/receiver_status.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace bitacora::engine {
namespace {

using Clock = std::chrono::steady_clock;

// Nearer than this to the master's head counts as streaming.
constexpr std::uint64_t kStreamingLagBytes = 1u << 20;

constexpr std::chrono::seconds kSilenceMax{3};  // of the sender's heartbeats, one a second

nlohmann::ordered_json lsn_or_null(MasterLsn lsn) {
  return lsn.valid() ? nlohmann::ordered_json(to_string(lsn)) : nlohmann::ordered_json();
}

nlohmann::ordered_json text_or_null(const std::string& text) {
  return text.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(text);
}

}  // namespace

void ReceiverStatus::on_connected(MasterLsn from) {
  const std::lock_guard lock(mutex_);
  positions_.frames = 0;
  positions_.received = from;
  positions_.flushed = std::min(positions_.flushed, from);
  connected_ = true;
  woken_ = false;
  if (in_session_) last_error_.clear();
}

void ReceiverStatus::on_disconnected() {
  const std::lock_guard lock(mutex_);
  connected_ = false;
}

void ReceiverStatus::on_flushed(MasterLsn flushed, std::uint64_t spool_bytes) {
  {
    const std::lock_guard lock(mutex_);
    positions_.flushed = flushed;
    spool_bytes_ = spool_bytes;
  }
  changed_.notify_all();
}

void ReceiverStatus::on_session(MasterLsn from) {
  const std::lock_guard lock(mutex_);
  positions_.applied = from;
  applied_ = {from, from};
  in_session_ = true;
  if (connected_) last_error_.clear();
}

MasterLsn ReceiverStatus::durable() const {
  const std::lock_guard lock(mutex_);
  return applied_.durable;
}

void ReceiverStatus::on_received(std::uint64_t frames, MasterLsn received) {
  {
    const std::lock_guard lock(mutex_);
    positions_.frames = frames;
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
  }
  changed_.notify_all();
}

bool ReceiverStatus::on_session_end() {
  const std::lock_guard lock(mutex_);
  transactions_before_ += std::exchange(applied_.transactions, 0);
  rows_before_ += std::exchange(applied_.rows, 0);
  conflicts_before_ += std::exchange(applied_.conflicts, 0);
  return std::exchange(in_session_, false);
}

void ReceiverStatus::on_stopped() {
  const std::lock_guard lock(mutex_);
  stopped_ = true;
}

void ReceiverStatus::on_sequences(std::size_t count) {
  const std::lock_guard lock(mutex_);
  sequences_ = count;
  sequences_at_ = Clock::now();
}

MasterLsn ReceiverStatus::applied() const {
  const std::lock_guard lock(mutex_);
  return applied_.applied;
}

std::optional<MasterLsn> ReceiverStatus::behind_at() const {
  const std::lock_guard lock(mutex_);
  if (in_session_ && positions_.flushed <= positions_.applied) return std::nullopt;
  return positions_.applied;
}

void ReceiverStatus::on_waiting(const std::string& blocker) {
  const std::lock_guard lock(mutex_);
  waiting_for_ = blocker;
}

void ReceiverStatus::on_error(const std::string& message) {
  const std::lock_guard lock(mutex_);
  last_error_ = message;
}

transport::ReceiverProgress ReceiverStatus::wait_for_change(
    const transport::ReceiverProgress& known, Clock::time_point deadline) {
  std::unique_lock lock(mutex_);
  changed_.wait_until(lock, deadline,
                      [&] { return woken_ || transport::worth_acknowledging(known, positions_); });
  return positions_;
}

void ReceiverStatus::wake() {
  {
    const std::lock_guard lock(mutex_);
    woken_ = true;
  }
  changed_.notify_all();
}

void ReceiverStatus::set_durable(MasterLsn durable) {
  const std::lock_guard lock(mutex_);
  applied_.durable = durable;
}

MasterLsn ReceiverStatus::wal_lsn() const {
  const std::lock_guard lock(mutex_);
  return wal_lsn_;
}

std::string ReceiverStatus::state() const {
  if (stopped_) return "stopped";
  if (!in_session_ && copy_.running()) return "copying";
  const bool near = bytes_between(positions_.applied, wal_lsn_) < kStreamingLagBytes;
  const bool heard = Clock::now() - master_clock_at_ < kSilenceMax;
  return connected_ && in_session_ && near && heard ? "streaming" : "catching_up";
}

// How old what is visible here is, by the master's own clock; zero when nothing is missing. Nobody
// knows that of a master not heard of: then it is the time since it was last heard.
double ReceiverStatus::lag_seconds() const {
  if (master_clock_at_ == Clock::time_point()) return 0;  // never heard: unknown
  const auto silent = Clock::now() - master_clock_at_;
  if (positions_.applied >= positions_.received || master_clock_usec_ == 0 ||
      applied_.commit_time_usec == 0) {
    const bool fresh = connected_ && silent < kSilenceMax;
    return fresh ? 0 : std::chrono::duration<double>(silent).count();
  }
  const auto since = std::chrono::duration_cast<std::chrono::microseconds>(silent).count();
  return std::max(
      0.0, static_cast<double>(master_clock_usec_ + since - applied_.commit_time_usec) / 1e6);
}

std::string ReceiverStatus::document() const {
  const std::lock_guard lock(mutex_);
  nlohmann::ordered_json document = {{"role", "receiver"},
                                     {"name", name_},
                                     {"state", state()},
                                     {"received_lsn", lsn_or_null(positions_.received)},
                                     {"flushed_lsn", lsn_or_null(positions_.flushed)},
                                     {"applied_lsn", lsn_or_null(positions_.applied)},
                                     {"lag_bytes", bytes_between(positions_.applied, wal_lsn_)},
                                     {"lag_seconds", lag_seconds()},
                                     {"spool_bytes", spool_bytes_},
                                     {"transactions", transactions_before_ + applied_.transactions},
                                     {"rows", rows_before_ + applied_.rows},
                                     {"conflicts", conflicts_before_ + applied_.conflicts},
                                     {"waiting_for", text_or_null(waiting_for_)},
                                     {"last_error", text_or_null(last_error_)}};
  document["copy"] = copy_.document();
  document["sequences"] =
      sequences_ ? nlohmann::ordered_json(*sequences_) : nlohmann::ordered_json();
  document["sequences_age_seconds"] =
      sequences_ ? nlohmann::ordered_json(
                       std::chrono::duration<double>(Clock::now() - sequences_at_).count())
                 : nlohmann::ordered_json();
  return document.dump();
}

}  // namespace bitacora::engine
