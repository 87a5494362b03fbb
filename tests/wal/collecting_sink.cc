#include "tests/wal/collecting_sink.h"

#include <algorithm>

namespace bitacora::wal {

bool CollectingSink::offer(const proto::SharedBatch& batch,
                           std::chrono::steady_clock::time_point deadline) {
  const auto parsed = proto::parse_batch(batch->bytes);
  CHECK(parsed != nullptr);
  const auto& changes = *parsed;
  const bool idle = std::all_of(changes.parts().begin(), changes.parts().end(),
                                [](const pb::Part& part) { return part.has_idle_position(); });
  const bool ends = std::any_of(changes.parts().begin(), changes.parts().end(),
                                [](const pb::Part& part) { return part.has_commit(); });
  std::unique_lock lock(mutex_);
  const auto welcome = [&] {
    return idle || (accepted_ < accepts_ && !(ends && refuses_commits_));
  };
  if (!changed_.wait_until(lock, deadline, welcome)) {
    ++refusals_;
    return false;
  }
  if (!idle) ++accepted_;
  batches_.push_back(batch);
  for (const auto& part : changes.parts()) parts_.push_back(part);
  const auto closing = proto::parse_batch(batch->closing);
  CHECK(closing != nullptr);
  for (const auto& part : closing->parts()) parts_.push_back(part);
  return true;
}

StandbyStatus CollectingSink::status() {
  const std::lock_guard lock(mutex_);
  ++times_asked_;
  return status_;
}

bool CollectingSink::wants_restart(bool /*streaming*/) {
  const std::lock_guard lock(mutex_);
  return wants_restart_;
}

void CollectingSink::on_master_position(MasterLsn wal_end, std::int64_t master_clock_usec) {
  const std::lock_guard lock(mutex_);
  newest_position_ = std::max(newest_position_, wal_end);
  master_clock_usec_ = master_clock_usec;
}

void CollectingSink::accept_at_most(std::size_t batches) {
  const std::lock_guard lock(mutex_);
  accepts_ = batches;
  changed_.notify_all();
}

void CollectingSink::refuse_commits() {
  const std::lock_guard lock(mutex_);
  refuses_commits_ = true;
}

void CollectingSink::confirm(MasterLsn lsn) {
  const std::lock_guard lock(mutex_);
  status_ = {lsn, lsn, lsn};
}

void CollectingSink::want_restart() {
  const std::lock_guard lock(mutex_);
  wants_restart_ = true;
}

std::vector<pb::Part> CollectingSink::parts() const {
  const std::lock_guard lock(mutex_);
  return parts_;
}

std::vector<proto::SharedBatch> CollectingSink::batches() const {
  const std::lock_guard lock(mutex_);
  return batches_;
}

std::size_t CollectingSink::commits() const {
  const std::lock_guard lock(mutex_);
  return static_cast<std::size_t>(std::count_if(
      parts_.begin(), parts_.end(), [](const pb::Part& part) { return part.has_commit(); }));
}

std::size_t CollectingSink::refusals() const {
  const std::lock_guard lock(mutex_);
  return refusals_;
}

std::size_t CollectingSink::times_asked() const {
  const std::lock_guard lock(mutex_);
  return times_asked_;
}

MasterLsn CollectingSink::end_lsn() const {
  const std::lock_guard lock(mutex_);
  MasterLsn newest;
  for (const auto& batch : batches_) newest = std::max(newest, batch->end_lsn);
  return newest;
}

MasterLsn CollectingSink::newest_position() const {
  const std::lock_guard lock(mutex_);
  return newest_position_;
}

std::int64_t CollectingSink::master_clock_usec() const {
  const std::lock_guard lock(mutex_);
  return master_clock_usec_;
}

}  // namespace bitacora::wal
