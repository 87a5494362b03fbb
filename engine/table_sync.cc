#include "engine/table_sync.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "apply/progress.h"
#include "apply/replication_origin.h"
#include "base/backoff.h"
#include "base/interruptible_sleep.h"
#include "base/log.h"
#include "engine/table_copy.h"
#include "proto/relation.h"

namespace bitacora::engine {
namespace {

using apply::CopiedTable;

// What cannot heal by itself may have been mended by somebody.
constexpr std::chrono::minutes kRefusedPause{1};
constexpr std::chrono::milliseconds kLookInterval{200};

std::string name_of(const CopiedTable& table) {
  return proto::qualified_name(table.schema, table.name);
}

std::vector<CopiedTable> planned_tables(const pb::CopyPlan& plan, MasterLsn hold) {
  std::vector<CopiedTable> tables;
  for (const auto& planned : plan.tables()) {
    CopiedTable& table = tables.emplace_back();
    table.schema = planned.relation().schema();
    table.name = planned.relation().name();
    table.hold_lsn = hold;
  }
  return tables;
}

// Of those that are valid.
MasterLsn earliest(MasterLsn a, MasterLsn b) {
  if (!a.valid() || !b.valid()) return std::max(a, b);
  return std::min(a, b);
}

// Not complete, or complete and behind the others.
bool needs_spool(const CopiedTable& table) { return table.hold_lsn.valid(); }

}  // namespace

TableSync::TableSync(const ReceiverOptions& options, CopyProgress& progress,
                     apply::TargetClaims& claims, Hold hold)
    : options_(options), progress_(progress), claims_(claims), hold_(std::move(hold)) {}

TableSync::~TableSync() = default;

void TableSync::follow(const pb::Caller& caller) {
  const std::lock_guard lock(mutex_);
  caller_ = caller;
}

Result<void> TableSync::begin_first(apply::StandbySession& standby, const pb::CopyPlan& plan,
                                    MasterLsn from) {
  RETURN_IF_ERROR(apply::ensure_copied_tables(standby));
  RETURN_IF_ERROR(apply::add_copied_tables(standby, options_.name, planned_tables(plan, from)));
  const std::lock_guard lock(mutex_);
  begun_ = plan;
  return {};
}

Result<void> TableSync::load(apply::StandbySession& standby, MasterLsn applied, bool first) {
  first_ = first;
  wants_restart_ = false;
  RETURN_IF_ERROR(take_request(standby));
  ASSIGN_OR_RETURN(tables_, apply::load_copied_tables(standby, options_.name));
  applied_ = applied;
  replayed_.clear();
  if (!first_) RETURN_IF_ERROR(release(standby, applied));
  std::vector<std::string> names;
  for (const auto& table : tables_) {
    if (needs_spool(table)) names.push_back(name_of(table));
  }
  const std::lock_guard lock(mutex_);
  on_their_way_ = std::move(names);
  hold_(earliest(needed_from(), requested_.empty() ? MasterLsn{} : requested_hold_));
  return {};
}

Result<void> TableSync::take_request(apply::StandbySession& standby) {
  std::optional<Request> request;
  {
    const std::lock_guard lock(mutex_);
    request = std::exchange(request_, std::nullopt);
  }
  if (!request) return {};
  auto noted = apply::ensure_copied_tables(standby);
  if (noted.ok()) {
    noted = apply::add_copied_tables(standby, options_.name,
                                     planned_tables(request->plan, request->hold));
  }
  const std::lock_guard lock(mutex_);
  if (noted.ok()) {
    begun_ = std::move(request->plan);
    on_their_way_ = std::exchange(requested_, {});
  } else {
    request_ = std::move(request);
  }
  return noted;
}

// Complete tables that nobody is ahead of need nothing of what was before.
Result<void> TableSync::release(apply::StandbySession& standby, MasterLsn applied) {
  std::vector<CopiedTable> released;
  for (auto& table : tables_) {
    if (!table.copied || !needs_spool(table)) continue;
    if (table.snapshot_lsn < applied) {
      replayed_.push_back(table);
    } else {
      released.push_back(table);
      table.hold_lsn = {};
    }
  }
  return apply::release_copied_tables(standby, options_.name, released);
}

MasterLsn TableSync::needed_from() const {
  MasterLsn needed;
  for (const auto& table : tables_) {
    if (!needs_spool(table)) continue;
    // A complete one needs what is behind its snapshot only; its replay may be further.
    needed = earliest(needed, table.copied ? table.snapshot_lsn : table.hold_lsn);
  }
  return needed;
}

Result<void> TableSync::begin_anew(apply::StandbySession& standby, MasterLsn applied) {
  std::vector<CopiedTable> lost;
  for (auto& table : tables_) {
    if (!needs_spool(table)) continue;
    spdlog::warn(
        "event=copy_begins_anew table={} reason=\"the spool has no more what happened to it since "
        "{}\"",
        name_of(table), to_string(table.copied ? table.snapshot_lsn : table.hold_lsn));
    CopiedTable anew;
    anew.schema = table.schema;
    anew.name = table.name;
    anew.hold_lsn = applied;
    table = std::move(anew);
    lost.push_back(table);
  }
  replayed_.clear();
  hold_(needed_from());
  RETURN_IF_ERROR(apply::release_copied_tables(standby, options_.name, {}, replay_subscription()));
  return apply::add_copied_tables(standby, options_.name, lost);
}

Result<MasterLsn> TableSync::first_position(apply::StandbySession& standby) {
  ASSIGN_OR_RETURN(const auto tables, apply::load_copied_tables(standby, options_.name));
  MasterLsn position;
  for (const auto& table : tables) position = std::max(position, table.hold_lsn);
  if (position.valid()) return position;
  return Error{ErrorCode::kState,
               fmt::format("the first copy of {} is not over, and bitacora.copied_tables does not "
                           "know its tables",
                           options_.name),
               "begin the receiver anew: delete its row of bitacora.progress and its --data-dir"};
}

Result<void> TableSync::copy_first(apply::StandbySession& standby, const std::stop_token& stop) {
  std::vector<apply::SourceTable> missing;
  for (const auto& table : tables_) {
    if (!table.copied) missing.push_back({{table.schema, table.name}});
  }
  // By the file of today, which may not be the one they were asked for with.
  RETURN_IF_ERROR(claims_.claim(missing));
  // Else it goes on in the background.
  if (!missing.empty() && !first_) return {};
  RETURN_IF_ERROR(copy_missing(standby, stop));
  if (first_) RETURN_IF_ERROR(apply::end_first_copy(standby, options_.name, applied_));
  RETURN_IF_ERROR(apply::make_progress_durable(standby, options_.name));
  return load(standby, applied_, false);
}

// By the plan that was begun for them, if there is one.
Result<void> TableSync::copy_missing(apply::StandbySession& standby, const std::stop_token& stop) {
  std::optional<pb::CopyPlan> begun;
  pb::Caller caller;
  {
    const std::lock_guard lock(mutex_);
    begun = std::exchange(begun_, std::nullopt);
    caller = caller_;
  }
  return TableCopy(options_, caller, progress_).run(standby, std::move(begun), stop);
}

apply::TableScope TableSync::scope(TablePatterns patterns) const {
  apply::TableScope scope{std::move(patterns)};
  scope.targets = options_.targets;
  scope.claim = [this](const apply::SourceTable& table) { return claims_.claim({table}); };
  for (const auto& table : tables_) {
    if (!table.copied) {
      scope.left_out.insert(name_of(table));
    } else if (table.snapshot_lsn > applied_) {
      scope.begins[name_of(table)] = table.snapshot_lsn;
    }
  }
  return scope;
}

apply::TableScope TableSync::replay_scope(TablePatterns patterns) const {
  apply::TableScope scope{std::move(patterns)};
  scope.targets = options_.targets;
  scope.claim = [this](const apply::SourceTable& table) { return claims_.claim({table}); };
  scope.only.emplace();
  for (const auto& table : replayed_) {
    scope.only->insert(name_of(table));
    scope.begins[name_of(table)] = table.snapshot_lsn;
  }
  return scope;
}

MasterLsn TableSync::replay_from() const {
  CHECK(!replayed_.empty());
  return std::min_element(replayed_.begin(), replayed_.end(),
                          [](const CopiedTable& a, const CopiedTable& b) {
                            return a.snapshot_lsn < b.snapshot_lsn;
                          })
      ->snapshot_lsn;
}

Result<void> TableSync::end_replay(apply::StandbySession& standby) {
  RETURN_IF_ERROR(
      apply::release_copied_tables(standby, options_.name, replayed_, replay_subscription()));
  RETURN_IF_ERROR(apply::make_progress_durable(standby, options_.name));
  for (const auto& table : replayed_)
    spdlog::info("event=table_follows table={} from={}", name_of(table), to_string(applied_));
  return load(standby, applied_, false);
}

void TableSync::start_in_background() {
  const bool missing = std::any_of(tables_.begin(), tables_.end(),
                                   [](const CopiedTable& table) { return !table.copied; });
  if (!missing) return;
  background_ = std::jthread([this](const std::stop_token& stop) { copy_in_background(stop); });
}

// The others go on whatever happens here.
void TableSync::copy_in_background(const std::stop_token& stop) {
  Backoff backoff;
  std::string reported;
  while (!stop.stop_requested()) {
    const auto copied = copy_once(stop);
    if (stop.stop_requested()) return;
    if (copied.ok()) {
      wants_restart_ = true;
      return;
    }
    const auto line = one_line(copied.error());
    progress_.on_waiting(redacted(line));
    if (line != std::exchange(reported, line))
      spdlog::warn("event=copy_failed reason=\"{}\" action=\"trying again\"", line);
    if (copied.error().heals()) {
      interruptible_sleep(backoff.next(), stop);
    } else {
      interruptible_sleep(kRefusedPause, stop);
    }
  }
}

Result<void> TableSync::copy_once(const std::stop_token& stop) {
  ASSIGN_OR_RETURN(auto standby,
                   apply::StandbySession::connect(options_.standby, "bitacora_" + options_.name));
  RETURN_IF_ERROR(standby.join(options_.name));
  RETURN_IF_ERROR(apply::mark_what_is_applied(standby));
  RETURN_IF_ERROR(copy_missing(standby, stop));
  return apply::make_progress_durable(standby, options_.name);
}

Result<void> TableSync::request_copy(const std::vector<pb::TableName>& tables, MasterLsn applied) {
  std::vector<std::string> names;
  for (const auto& table : tables)
    names.push_back(proto::qualified_name(table.schema(), table.name()));
  pb::Caller caller;
  {
    const std::lock_guard lock(mutex_);
    if (!requested_.empty() || !on_their_way_.empty()) {
      return Error{ErrorCode::kState, "a copy is going on", "ask again when it has ended"};
    }
    caller = caller_;
    requested_ = std::move(names);
    requested_hold_ = applied;
    hold_(applied);  // before the snapshot, which shows nothing older
  }
  auto prepared = prepare(tables, caller);
  progress_.on_waiting("");
  const std::lock_guard lock(mutex_);
  if (!prepared.ok()) {
    requested_.clear();
    hold_({});
    return prepared.error();
  }
  request_ = Request{std::move(prepared->plan), applied};
  wants_restart_ = true;
  return {};
}

Result<PreparedCopy> TableSync::prepare(const std::vector<pb::TableName>& tables,
                                        const pb::Caller& caller) {
  std::vector<apply::SourceTable> sources;
  for (const auto& table : tables) sources.push_back({{table.schema(), table.name()}});
  ASSIGN_OR_RETURN(auto standby,
                   apply::StandbySession::connect(options_.standby, "bitacora_" + options_.name));
  RETURN_IF_ERROR(claims_.check(standby, sources));
  ASSIGN_OR_RETURN(auto prepared,
                   prepare_copy(standby, options_, caller, tables, FilledTables::kEmpty,
                                waiting_report(progress_), {}));
  // Only now: a table that the sender does not ship must not be in another receiver's way.
  if (const auto claimed = claims_.claim(sources); !claimed.ok()) {
    give_up_copy(options_, caller, prepared.plan);
    return claimed.error();
  }
  return prepared;
}

bool TableSync::busy() const {
  const std::lock_guard lock(mutex_);
  return !requested_.empty() || !on_their_way_.empty();
}

void TableSync::wait_while_busy(const std::stop_token& stop) const {
  while (busy() && !wants_restart_ && interruptible_sleep(kLookInterval, stop)) {
  }
}

bool TableSync::on_its_way(const pb::TableName& table) const {
  const auto name = proto::qualified_name(table.schema(), table.name());
  const auto has = [&](const std::vector<std::string>& names) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  const std::lock_guard lock(mutex_);
  return has(requested_) || has(on_their_way_);
}

}  // namespace bitacora::engine
