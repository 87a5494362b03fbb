// do_schema_steps(): a thread per session takes steps from the queue; the caller's thread cancels
// what runs at a stop and after an error.
#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "apply/schema_entry.h"
#include "apply/schema_steps.h"
#include "apply/standby_command.h"
#include "apply/step_queue.h"
#include "apply/text_array.h"
#include "base/check.h"

namespace bitacora::apply {
namespace {

constexpr int kDeadlocksMax = 10;
// A cancel request may come between two statements: it is repeated until the session has ended.
constexpr std::chrono::milliseconds kCancelInterval{100};

// A foreign key is checked by a join of whole tables: not with the setting for single rows.
constexpr const char* kBegin =
    "BEGIN; SET LOCAL enable_seqscan = on; SET LOCAL check_function_bodies = off; SELECT "
    "pg_catalog.set_config('maintenance_work_mem',"
    " '256MB', true) WHERE pg_catalog.pg_size_bytes(pg_catalog.current_setting("
    "'maintenance_work_mem')) < pg_catalog.pg_size_bytes('256MB')";

class StepRunner {
 public:
  StepRunner(std::span<StandbySession> sessions, const std::string& subscription, StepQueue queue,
             const OnStepDone& on_done, const std::stop_token& stop)
      : sessions_(sessions),
        subscription_(subscription),
        on_done_(on_done),
        stop_(stop),
        queue_(std::move(queue)),
        working_(sessions.size(), false) {}

  Result<void> run() {
    std::vector<std::jthread> threads;
    active_ = sessions_.size();
    for (std::size_t i = 0; i < sessions_.size(); ++i) threads.emplace_back([this, i] { work(i); });
    std::unique_lock lock(mutex_);
    while (active_ > 0) {
      changed_.wait_for(lock, kCancelInterval);
      note_stop();
      if (error_) cancel();
    }
    if (error_) return *error_;
    return {};
  }

 private:
  // With the mutex held.
  void note_stop() {
    const bool working = std::find(working_.begin(), working_.end(), true) != working_.end();
    if (!stop_.stop_requested() || error_ || (queue_.empty() && !working)) return;
    error_ = Error{
        ErrorCode::kStandby, "stopped before all of the schema was made", {}, Recovery::kRetry};
  }
  void cancel() {
    for (std::size_t i = 0; i < sessions_.size(); ++i) {
      if (working_[i]) sessions_[i].cancel();
    }
  }

  void work(std::size_t i) {
    std::unique_lock lock(mutex_);
    while (!error_ && !queue_.empty()) {
      note_stop();
      const SchemaStep* step = error_ ? nullptr : queue_.next();
      if (step == nullptr) {
        changed_.wait_for(lock, kCancelInterval);
        continue;
      }
      working_[i] = true;
      lock.unlock();
      const auto begun_at = std::chrono::steady_clock::now();
      const auto done = do_step(sessions_[i], *step);
      if (done.ok()) on_done_(*step, std::chrono::steady_clock::now() - begun_at);
      lock.lock();
      working_[i] = false;
      queue_.ended(*step);
      if (!done.ok() && !error_) error_ = done.error();
      changed_.notify_all();
    }
    --active_;
    changed_.notify_all();
  }

  Result<void> do_step(StandbySession& session, const SchemaStep& step) {
    for (int deadlocks = 0;; ++deadlocks) {
      const auto done = try_step(session, step);
      if (done.ok() || done.sqlstate != "40P01" || deadlocks == kDeadlocksMax) return done.result();
    }
  }

  CommandOutcome try_step(StandbySession& session, const SchemaStep& step) {
    const auto doing = fmt::format("cannot make {} {}", step.type, step.name);
    auto made = execute(session, doing, kBegin);
    if (made.ok()) made = execute(session, doing, step.sql);
    if (made.ok()) {
      auto done = forget(session, step, doing);
      if (done.ok()) done = commit(session, doing);
      if (done.ok()) return {};
      roll_back(session);
      return {done.error(), {}};
    }
    roll_back(session);
    if (!there_already(step.type, made.sqlstate)) return explained(session, step, made);
    const auto done = forget(session, step, doing);
    return done.ok() ? CommandOutcome{} : CommandOutcome{done.error(), {}};
  }

  CommandOutcome explained(StandbySession& session, const SchemaStep& step, CommandOutcome made) {
    if (made.error->heals()) return made;
    made.error->hint = hint_for({step.type,
                                 {},
                                 step.name,
                                 made.sqlstate,
                                 PQuser(session.connection()),
                                 PQdb(session.connection())});
    if (!made.error->hint.empty()) made.error->hint += ", or ";
    made.error->hint += fmt::format(
        "leave this step out: DELETE FROM bitacora.schema_steps WHERE subscription = '{}' AND"
        " number = {}",
        subscription_, step.number);
    return made;
  }

  Result<void> forget(StandbySession& session, const SchemaStep& step, const std::string& doing) {
    const auto forgotten = session.query(
        doing, "DELETE FROM bitacora.schema_steps WHERE subscription = $1 AND number = $2::bigint",
        {subscription_, std::to_string(step.number)});
    return forgotten.ok() ? Result<void>{} : forgotten.error();
  }

  const std::span<StandbySession> sessions_;
  const std::string& subscription_;
  const OnStepDone& on_done_;
  const std::stop_token& stop_;

  std::mutex mutex_;  // guards all below
  std::condition_variable changed_;
  StepQueue queue_;
  std::vector<bool> working_;  // by session: a step is running in it
  std::size_t active_ = 0;     // threads
  std::optional<Error> error_;
};

// Only the order depends on them: none when they cannot be had.
TableSizes table_sizes(StandbySession& session, const std::vector<SchemaStep>& steps) {
  TextArray tables;
  for (const auto& step : steps) {
    if (step.builds && !step.table.empty()) tables.add(step.table);
  }
  const auto rows = session.query(
      "cannot ask for the tables' sizes",
      "SELECT DISTINCT name, pg_catalog.pg_total_relation_size(pg_catalog.to_regclass(name))"
      " FROM pg_catalog.unnest($1::text[]) AS name",
      {tables.text()});
  TableSizes sizes;
  if (!rows.ok()) return sizes;
  for (const auto& row : *rows)
    sizes[*row[0]] = row[1] ? std::strtoull(row[1]->c_str(), nullptr, 10) : 0;
  return sizes;
}

}  // namespace

Result<void> do_schema_steps(std::span<StandbySession> sessions, const std::string& subscription,
                             const std::vector<SchemaStep>& steps, const OnStepDone& on_done,
                             const std::stop_token& stop) {
  CHECK(!sessions.empty());
  if (steps.empty()) return {};
  StepQueue queue(steps, table_sizes(sessions.front(), steps));
  return StepRunner(sessions, subscription, std::move(queue), on_done, stop).run();
}

}  // namespace bitacora::apply
