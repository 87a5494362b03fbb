#include "apply/workers.h"

#include <chrono>
#include <utility>

namespace bitacora::apply {
namespace {

constexpr std::chrono::milliseconds kCancelInterval{50};  // a cancel may come between two commands

}  // namespace

Workers::Workers(const std::vector<std::unique_ptr<GroupWriter>>& writers,
                 std::function<void()> on_end)
    : on_end_(std::move(on_end)) {
  for (const auto& writer : writers) {
    workers_.push_back(std::make_unique<Worker>());
    workers_.back()->writer = writer.get();
  }
  for (auto& worker : workers_) {
    worker->thread =
        std::jthread([this, &worker = *worker](const std::stop_token& stop) { run(stop, worker); });
  }
}

Workers::~Workers() {
  give_up();
  for (auto& worker : workers_) worker->thread = {};
}

void Workers::begin(Group group) {
  CHECK(!all_busy());
  const auto number = next_++;
  const auto conflict = in_flight_.last_met(group.footprint);
  const auto before = number > oldest_ ? number - 1 : 0;
  in_flight_.add(number, group.footprint);
  Worker& worker = worker_of(number);
  {
    const std::lock_guard lock(mutex_);
    worker.start = {group.one_trip, false, conflict};
    // Whoever waited for it before its rows need not wait again.
    worker.end = {group.from,
                  group.to,
                  group.commit_time_usec,
                  before == conflict ? 0 : before,
                  number,
                  number + workers_.size()};
    worker.ended = false;
    worker.group = std::move(group);
  }
  changed_.notify_all();
}

void Workers::run(const std::stop_token& stop, Worker& worker) {
  while (true) {
    {
      std::unique_lock lock(mutex_);
      if (!changed_.wait(lock, stop, [&] { return worker.group && !worker.ended; })) return;
    }
    auto written = write(worker);
    {
      const std::lock_guard lock(mutex_);
      worker.written = std::move(written);
      worker.ended = true;
    }
    changed_.notify_all();
    on_end_();
  }
}

Result<void> Workers::write(Worker& worker) {
  GroupWriter& writer = *worker.writer;
  RETURN_IF_ERROR(writer.begin(worker.start));
  for (const auto& rows : worker.group->rows) {
    if (giving_up_) return Error{ErrorCode::kStandby, "a group before it failed"};
    RETURN_IF_ERROR(writer.write(rows));
  }
  return writer.commit(worker.end);
}

bool Workers::oldest_ended() const {
  if (all_finished()) return false;
  const std::lock_guard lock(mutex_);
  return worker_of(oldest_).ended;
}

Finished Workers::finish_oldest() {
  CHECK(!all_finished());
  Worker& worker = worker_of(oldest_);
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return worker.ended; });
  Group group = std::move(*worker.group);
  worker.group.reset();
  in_flight_.remove(oldest_++, group.footprint);
  // What the server refused may be due to other groups in flight, too.
  std::optional<PathRefusal> refusal;
  if (!worker.written.ok() && worker.writer->connected())
    refusal = worker.writer->refusal(group.begun, true);
  return {std::move(group), worker.written, refusal, worker.writer->position()};
}

void Workers::give_up() {
  giving_up_ = true;
  std::unique_lock lock(mutex_);
  const auto all_ended = [&] {
    for (auto number = oldest_; number < next_; ++number) {
      if (!worker_of(number).ended) return false;
    }
    return true;
  };
  while (!all_ended()) {
    for (auto number = oldest_; number < next_; ++number) {
      if (!worker_of(number).ended) worker_of(number).writer->cancel();
    }
    changed_.wait_for(lock, kCancelInterval, all_ended);
  }
  oldest_ = next_;
}

}  // namespace bitacora::apply
