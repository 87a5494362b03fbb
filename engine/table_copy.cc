#include "engine/table_copy.h"

#include <algorithm>
#include <thread>
#include <utility>

#include <unistd.h>

#include <fmt/format.h>

#include "apply/part_writer.h"
#include "apply/replication_origin.h"
#include "apply/schema_steps.h"
#include "apply/table_map.h"
#include "base/interruptible_sleep.h"
#include "base/log.h"
#include "engine/copy_jobs.h"
#include "engine/copy_parts.h"
#include "proto/relation.h"

namespace bitacora::engine {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::uint64_t kFreezeBytesMin = 4u << 20;  // of a table on the master's disk
constexpr std::chrono::seconds kTerminalInterval{1};
constexpr std::chrono::seconds kLogInterval{10};

// Shows the progress for as long as it lives: one line that is written over on a terminal, a line
// now and then elsewhere.
class ProgressReport {
 public:
  explicit ProgressReport(const CopyProgress& progress)
      : progress_(progress), thread_([this](const std::stop_token& stop) { report(stop); }) {}
  ~ProgressReport() {
    thread_.request_stop();
    thread_.join();
    if (terminal_) std::fputs("\r\033[K", stderr);
  }
  ProgressReport(const ProgressReport&) = delete;
  ProgressReport& operator=(const ProgressReport&) = delete;

 private:
  void report(const std::stop_token& stop) const {
    while (interruptible_sleep(terminal_ ? kTerminalInterval : kLogInterval, stop)) {
      if (!progress_.running()) continue;
      if (terminal_) {
        std::fputs(fmt::format("\r\033[K{}", progress_.line()).c_str(), stderr);
      } else {
        spdlog::info("event=copy_progress {}", progress_.line());
      }
    }
  }

  const CopyProgress& progress_;
  const bool terminal_ = ::isatty(STDERR_FILENO) == 1;
  std::jthread thread_;
};

pb::CopyPart request_for(const CopyJob& job) {
  pb::CopyPart request;
  request.set_relation_oid(job.table->relation_oid);
  request.set_piece_oid(job.part.piece);
  request.set_begin_page(job.part.begin_page);
  request.set_end_page(job.part.end_page);
  request.mutable_columns()->Assign(job.table->columns.begin(), job.table->columns.end());
  request.set_binary(job.table->target.binary);
  return request;
}

std::uint64_t bytes_of(const pb::CopyTablePlan& planned) {
  std::uint64_t bytes = 0;
  for (const auto& piece : planned.pieces()) bytes += piece.bytes();
  return bytes;
}

Error cannot_be_emptied(const ReceiverOptions& options, const CopyingTable& table) {
  const auto target = options.targets.target(table.copied.schema, table.copied.name);
  return {
      ErrorCode::kConfiguration,
      fmt::format("{} cannot be copied anew: {} has rows of others too, and nothing tells whose "
                  "a row is",
                  table.name, proto::qualified_name(target.schema, target.table)),
      fmt::format("delete its rows there, then DELETE FROM bitacora.copied_parts WHERE "
                  "(subscription, schema_name, table_name) = ('{}', '{}', '{}')",
                  options.name, table.copied.schema, table.copied.name)};
}

// The first error of several threads, which ends the others.
class FirstError {
 public:
  void note(const Result<void>& result) {
    if (result.ok()) return;
    const std::lock_guard lock(mutex_);
    if (!error_) error_ = result.error();
    others_.request_stop();
  }
  std::stop_source& others() { return others_; }
  Result<void> result() {
    const std::lock_guard lock(mutex_);
    return error_ ? Result<void>(*error_) : Result<void>{};
  }

 private:
  std::mutex mutex_;
  std::optional<Error> error_;
  std::stop_source others_;
};

}  // namespace

TableCopy::TableCopy(const ReceiverOptions& options, pb::Caller caller, CopyProgress& progress)
    : options_(options), caller_(std::move(caller)), progress_(progress) {}

TableCopy::~TableCopy() = default;

Result<void> TableCopy::run(apply::StandbySession& standby, std::optional<pb::CopyPlan> begun,
                            const std::stop_token& stop) {
  ASSIGN_OR_RETURN(auto missing, apply::load_copied_tables(standby, options_.name));
  std::erase_if(missing, [](const auto& table) { return table.copied; });
  ASSIGN_OR_RETURN(const auto steps, apply::load_schema_steps(standby, options_.name));
  if (missing.empty() && steps.empty()) return {};
  {
    const ProgressReport report(progress_);
    if (!missing.empty())
      RETURN_IF_ERROR(copy_rows(standby, std::move(missing), std::move(begun), stop));
    RETURN_IF_ERROR(do_steps(standby, stop));
  }
  progress_.end();
  for (const auto& line : progress_.closing_table()) spdlog::info("event=copied {}", line);
  return {};
}

Result<void> TableCopy::copy_rows(apply::StandbySession& standby,
                                  std::vector<apply::CopiedTable> missing,
                                  std::optional<pb::CopyPlan> begun, const std::stop_token& stop) {
  ASSIGN_OR_RETURN(sender_, transport::CopyClient::dial(options_.sender, options_.tls, stop));
  if (!begun) {
    ASSIGN_OR_RETURN(begun, ask_for_plan(missing, stop));
  }
  RETURN_IF_ERROR(apply::ensure_schema_steps(standby));
  CopyJobs jobs;
  RETURN_IF_ERROR(prepare(standby, *begun, missing, jobs));
  RETURN_IF_ERROR(give_up_unpublished(standby, *begun, missing));
  progress_.begin(jobs.expected());
  spdlog::info("event=copying tables={} parts={} snapshot={} lsn={}", jobs.tables().size(),
               jobs.left(), begun->snapshot(), to_string(MasterLsn{begun->lsn()}));
  for (const auto& table : jobs.expected()) {
    if (table.parts > 0) continue;
    for (const auto& each : jobs.tables()) {
      if (each->name == table.table) RETURN_IF_ERROR(finish_table(standby, *each));
    }
  }
  RETURN_IF_ERROR(work_on(jobs, *begun, stop));
  pb::EndCopyRequest end;
  *end.mutable_caller() = caller_;
  end.set_snapshot(begun->snapshot());
  const auto ended = sender_->end(end, stop);
  if (!ended.ok()) spdlog::warn("event=copy_not_ended reason=\"{}\"", one_line(ended.error()));
  return {};
}

// In the snapshot of one that was begun before, if the sender still has it.
Result<pb::CopyPlan> TableCopy::ask_for_plan(const std::vector<apply::CopiedTable>& missing,
                                             const std::stop_token& stop) {
  pb::BeginCopyRequest request;
  *request.mutable_caller() = caller_;
  for (const auto& table : missing) {
    auto* name = request.add_tables();
    name->set_schema(table.schema);
    name->set_name(table.name);
    if (!table.snapshot.empty()) request.set_snapshot(table.snapshot);
  }
  request.set_leave_out_unpublished(true);
  return sender_->begin(request, waiting_report(progress_), stop);
}

Result<void> TableCopy::prepare(apply::StandbySession& standby, const pb::CopyPlan& plan,
                                const std::vector<apply::CopiedTable>& missing, CopyJobs& jobs) {
  apply::StandbyCatalog catalog(options_.standby);
  apply::TableScope scope;
  scope.targets = options_.targets;
  apply::TableMap tables(catalog, std::move(scope));
  std::vector<apply::CopiedTable> whole;  // those that begin anew, and are not emptied here
  for (const auto& type : plan.types()) tables.describe(type);
  for (const auto& planned : plan.tables()) {
    tables.describe(planned.relation());
    ASSIGN_OR_RETURN(const auto* table, tables.table(planned.relation().oid()));
    const auto found = std::find_if(missing.begin(), missing.end(), [&](const auto& each) {
      return each.schema == planned.relation().schema() && each.name == planned.relation().name();
    });
    if (found == missing.end()) continue;
    auto copied = *found;
    copied.snapshot = plan.snapshot();
    copied.snapshot_lsn = MasterLsn{plan.lsn()};
    auto copying = copying_table(planned, *table, std::move(copied));
    const bool begun = found->snapshot == plan.snapshot();
    ASSIGN_OR_RETURN(const auto parts, prepare_parts(standby, planned, begun, copying, whole));
    jobs.add(std::move(copying), planned, parts);
  }
  return apply::restart_whole_tables(standby, options_.name, whole);
}

// Those that are missing of a table that was `begun` in this snapshot, else all of them. A mingled
// table cannot be emptied: parts of another snapshot stay, and would be there twice.
Result<std::vector<apply::CopiedPart>> TableCopy::prepare_parts(
    apply::StandbySession& standby, const pb::CopyTablePlan& planned, bool begun,
    CopyingTable& table, std::vector<apply::CopiedTable>& whole) {
  const bool mingled = table.target.mingled;
  const auto parts = split_into_parts(planned, mingled ? UINT64_MAX : options_.copy.split_bytes);
  table.target.whole = parts.size() == 1;
  table.target.small = bytes_of(planned) < kFreezeBytesMin;
  if (begun || mingled) {
    ASSIGN_OR_RETURN(const auto done,
                     apply::load_copied_parts(standby, options_.name, table.copied));
    auto left = begun ? missing_parts(parts, done) : std::nullopt;
    if (left) return *std::move(left);
    if (mingled && !done.empty()) return cannot_be_emptied(options_, table);
  }
  if (table.target.whole || mingled) {
    whole.push_back(table.copied);
    return parts;
  }
  RETURN_IF_ERROR(
      apply::restart_copied_table(standby, options_.name, table.copied, table.target.rows));
  return parts;
}

// Dropped on the master, or taken out of the publication, since their copy was asked for: as of the
// snapshot they have no rows for us.
Result<void> TableCopy::give_up_unpublished(apply::StandbySession& standby,
                                            const pb::CopyPlan& plan,
                                            const std::vector<apply::CopiedTable>& missing) {
  for (auto table : missing) {
    const bool planned =
        std::any_of(plan.tables().begin(), plan.tables().end(), [&](const auto& each) {
          return each.relation().schema() == table.schema && each.relation().name() == table.name;
        });
    if (planned) continue;
    table.snapshot = plan.snapshot();
    table.snapshot_lsn = MasterLsn{plan.lsn()};
    RETURN_IF_ERROR(apply::give_up_copied_table(standby, options_.name, table));
    spdlog::warn(
        "event=copy_given_up table={} reason=\"the master does not publish it any more\" "
        "meaning=\"what the standby has of it stays\" hint=\"if it is published again: bitacora "
        "resync\"",
        proto::qualified_name(table.schema, table.name));
  }
  return {};
}

Result<void> TableCopy::work_on(CopyJobs& jobs, const pb::CopyPlan& plan,
                                const std::stop_token& stop) {
  FirstError first;
  {
    const std::stop_callback end_others(stop, [&] { first.others().request_stop(); });
    std::vector<std::jthread> workers;
    const auto count = std::min<std::size_t>(options_.copy.sessions, jobs.left());
    for (std::size_t i = 0; i < count; ++i)
      workers.emplace_back([&] { first.note(work(jobs, plan, first.others().get_token())); });
  }
  RETURN_IF_ERROR(first.result());
  if (stop.stop_requested())
    return Error{ErrorCode::kNetwork, "the receiver is stopping", {}, Recovery::kRetry};
  return {};
}

// One of several threads.
Result<void> TableCopy::work(CopyJobs& jobs, const pb::CopyPlan& plan,
                             const std::stop_token& stop) {
  ASSIGN_OR_RETURN(auto sessions, connect(1));
  auto& session = sessions.front();
  RETURN_IF_ERROR(apply::mark_what_is_applied(session));
  pb::CopyOpening opening;
  *opening.mutable_caller() = caller_;
  opening.set_snapshot(plan.snapshot());
  ASSIGN_OR_RETURN(const auto parts, sender_->open(opening));
  const std::stop_callback cancel_on_stop(stop, [&] {
    parts->cancel();
    session.cancel();
  });
  while (!stop.stop_requested()) {
    const auto job = jobs.next();
    if (!job) break;
    RETURN_IF_ERROR(copy_part(*job, session, *parts));
    if (jobs.done(*job)) RETURN_IF_ERROR(finish_table(session, *job->table));
  }
  return {};
}

Result<void> TableCopy::copy_part(const CopyJob& job, apply::StandbySession& session,
                                  transport::CopyParts& parts) {
  apply::PartWriter writer(session, options_.name);
  progress_.on_part_begun(job.table->name);
  RETURN_IF_ERROR(writer.begin(job.table->target, job.part));
  const auto end = parts.read(
      request_for(job),
      [&](std::string_view piece) {
        progress_.on_bytes(piece.size());
        return writer.write(piece);
      },
      waiting_report(progress_, job.table->name));
  if (!end.ok()) {
    writer.abandon();
    return end.error();
  }
  RETURN_IF_ERROR(writer.finish(end->rows(), end->bytes()));
  progress_.on_part(job.table->name, end->rows(), end->bytes(), job.disk_bytes);
  return {};
}

Result<void> TableCopy::finish_table(apply::StandbySession& session, const CopyingTable& table) {
  // First: else a kill between the two would leave it out.
  RETURN_IF_ERROR(apply::add_analyze_step(session, options_.name, table.relation_oid, table.name,
                                          table.target.rows.table));
  RETURN_IF_ERROR(apply::finish_copied_table(session, options_.name, table.copied));
  progress_.on_table(table.name);
  spdlog::debug("event=table_copied table={}", table.name);
  return {};
}

Result<void> TableCopy::do_steps(apply::StandbySession& standby, const std::stop_token& stop) {
  ASSIGN_OR_RETURN(const auto steps, apply::load_schema_steps(standby, options_.name));
  if (steps.empty()) return {};
  const auto building = static_cast<std::size_t>(
      std::count_if(steps.begin(), steps.end(), [](const auto& step) { return step.builds; }));
  ASSIGN_OR_RETURN(auto sessions,
                   connect(std::clamp<std::size_t>(building, 1, options_.copy.sessions)));
  progress_.begin_steps(steps.size());
  return apply::do_schema_steps(
      sessions, options_.name, steps,
      [&](const apply::SchemaStep& step, Clock::duration took) {
        progress_.on_step(step.type, step.name, took);
      },
      stop);
}

Result<std::vector<apply::StandbySession>> TableCopy::connect(std::size_t count) {
  std::vector<apply::StandbySession> sessions;
  while (sessions.size() < count) {
    ASSIGN_OR_RETURN(auto session,
                     apply::StandbySession::connect(options_.standby, "bitacora_" + options_.name));
    RETURN_IF_ERROR(session.join(options_.name));
    sessions.push_back(std::move(session));
  }
  return sessions;
}

}  // namespace bitacora::engine
