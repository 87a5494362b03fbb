#include "engine/spool_keeper.h"

#include <algorithm>
#include <utility>

#include "base/log.h"

namespace bitacora::engine {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kTidyInterval{1};

std::int64_t now_usec() {
  return std::chrono::duration_cast<std::chrono::microseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

}  // namespace

SpoolKeeper::SpoolKeeper(transport::Spool& spool, apply::Checkpoint& checkpoint,
                         ReceiverStatus& status)
    : spool_(spool),
      checkpoint_(checkpoint),
      status_(status),
      thread_([this](const std::stop_token& stop) { run(stop); }) {}

SpoolKeeper::~SpoolKeeper() {
  thread_.request_stop();
  appended_.notify_all();
  thread_.join();
  sync();
  tidy();
}

void SpoolKeeper::on_appended() {
  {
    const std::lock_guard lock(mutex_);
    dirty_ = true;
  }
  appended_.notify_one();
}

void SpoolKeeper::follow(const pb::Identity& identity) {
  const std::lock_guard lock(mutex_);
  identity_ = identity;
}

void SpoolKeeper::hold(MasterLsn from) {
  const std::lock_guard lock(mutex_);
  hold_ = from;
}

MasterLsn SpoolKeeper::needed_from(MasterLsn durable) {
  const std::lock_guard lock(mutex_);
  return hold_.valid() ? std::min(durable, hold_) : durable;
}

// What is appended during one fdatasync is made durable together by the next.
void SpoolKeeper::run(const std::stop_token& stop) {
  auto tidy_due = Clock::now() + kTidyInterval;
  while (!stop.stop_requested()) {
    bool dirty = false;
    {
      std::unique_lock lock(mutex_);
      appended_.wait_until(lock, tidy_due, [&] { return dirty_ || stop.stop_requested(); });
      dirty = std::exchange(dirty_, false);
    }
    if (dirty) sync();
    if (Clock::now() < tidy_due) continue;
    tidy();
    tidy_due = Clock::now() + kTidyInterval;
  }
}

// After a failure the spool is of no use until the intake, which hears of it with its next frame,
// has opened it anew.
void SpoolKeeper::sync() {
  const auto synced = spool_.sync();
  if (synced.ok()) {
    failing_ = false;
    status_.on_flushed(*synced, spool_.bytes());
  } else if (!std::exchange(failing_, true)) {
    spdlog::warn("event=spool_not_durable reason=\"{}\"", one_line(synced.error()));
  }
}

void SpoolKeeper::tidy() {
  const MasterLsn durable = status_.durable();
  if (!durable.valid()) return;
  const auto trimmed = spool_.trim(needed_from(durable), now_usec());
  const auto saved = save_checkpoint(durable);
  for (const auto& result : {trimmed, saved}) {
    if (!result.ok()) spdlog::warn("event=not_tidied reason=\"{}\"", one_line(result.error()));
  }
  status_.on_flushed(spool_.synced_lsn(), spool_.bytes());
}

Result<void> SpoolKeeper::save_checkpoint(MasterLsn durable) {
  apply::CheckpointState state;
  {
    const std::lock_guard lock(mutex_);
    if (!identity_) return {};
    state.progress = {*identity_, durable};
  }
  if (const auto mark = spool_.synced_mark())
    state.spool = apply::SpoolNote{mark->segment, mark->bytes, mark->lsn};
  if (saved_ && saved_->progress.applied_lsn == durable && saved_->spool == state.spool) return {};
  RETURN_IF_ERROR(checkpoint_.save(state));
  saved_ = state;
  return {};
}

}  // namespace bitacora::engine
