#include "apply/conflict_resolver.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/sqlstate.h"
#include "proto/relation.h"

namespace bitacora::apply {
namespace {

// Somebody else writes to the table too, or the row collides with what could not be looked for.
constexpr int kAttemptsMax = 5;

bool inserts(const HeldRow& change) { return change.operation == pb::INSERT; }

bool updates(const HeldRow& change) {
  return !inserts(change) && proto::has_new_tuple(change.operation);
}

// See build_description.
std::string known_values(const HeldRow& change) {
  const auto& columns = change.table->plan.columns;
  std::string known(columns.size(), '-');
  for (std::size_t i = 0; i < columns.size(); ++i) {
    const auto& row = change.row;
    const bool sent = proto::has_new_tuple(change.operation) &&
                      row.new_tuple[i].kind != proto::ValueKind::kUnchanged;
    const bool whole_old =
        change.operation == pb::UPDATE_FULL || change.operation == pb::DELETE_FULL;
    if (sent) known[i] = 'n';
    if (!sent && (whole_old || (change.operation == pb::DELETE_KEY && columns[i].key)))
      known[i] = 'o';
  }
  return known;
}

RowShape plain_shape(const HeldRow& change) {
  return shape_of(change.table->plan, change.operation, change.row, change.table->text_columns,
                  false);
}

Conflict conflict_of(const HeldRow& held, ConflictPolicy policy, const RowRefusal& refusal) {
  Conflict conflict;
  conflict.commit_lsn = held.commit_lsn;
  conflict.commit_time_usec = held.commit_time_usec;
  conflict.schema = held.table->relation.schema();
  conflict.table = held.table->relation.name();
  conflict.operation = held.operation;
  conflict.policy = policy;
  const bool counted = refusal.sqlstate == kAssertionSqlstate && !inserts(held);
  if (!counted)
    conflict.detail = refusal.message + (refusal.detail.empty() ? "" : ": ") + refusal.detail;
  return conflict;
}

void note_local(Conflict& conflict, const std::vector<LocalRow>& rows) {
  auto& noted = conflict.local_rows;
  for (const auto& row : rows) {
    if (std::find(noted.begin(), noted.end(), row.json) == noted.end()) noted.push_back(row.json);
  }
}

LocalRow local_row(const GuardedExchange::Fields& fields, std::size_t first) {
  return {fields[first].value_or(""), fields[first + 1].value_or(""),
          fields[first + 2].value_or("")};
}

// What is in the way of a change. A target of an INSERT becomes what the master says instead.
std::vector<LocalRow> deletes_for(const HeldRow& change, const Situation& situation) {
  auto rows = situation.obstacles();
  if (inserts(change) && situation.targets.size() > 1)
    rows.insert(rows.end(), situation.targets.begin(), situation.targets.end());
  return rows;
}

}  // namespace

Result<void> ConflictResolver::resolve(const HeldRow& held, RowRefusal refusal) {
  const auto& source = held.table->source;
  auto conflict = conflict_of(held, policies_.of(source.schema(), source.name()), refusal);
  HeldRow change = held;
  for (int attempt = 0; attempt < kAttemptsMax; ++attempt) {
    ASSIGN_OR_RETURN(const auto situation, look(change, refusal, conflict.policy));
    if (attempt == 0) RETURN_IF_ERROR(judge_first(held, refusal, situation, conflict));
    if (attempt > 0 && !may_be_drift(refusal)) break;
    if (inserts(change)) note_local(conflict, situation.targets);
    note_local(conflict, situation.obstacles());
    const auto deletes = conflict.policy == ConflictPolicy::kOverwrite
                             ? deletes_for(change, situation)
                             : std::vector<LocalRow>{};
    ASSIGN_OR_RETURN(const auto then, instead(change, situation, conflict));
    ASSIGN_OR_RETURN(auto refused, act(then, deletes, conflict));
    if (!refused) {
      ++resolved_;
      log_.tell(conflict);
      return {};
    }
    if (then) change = *then;
    refusal = std::move(*refused);
  }
  return row_failure(held.origin, refusal, conninfo_);
}

Result<void> ConflictResolver::judge_first(const HeldRow& held, const RowRefusal& refusal,
                                           const Situation& situation, Conflict& conflict) {
  const auto type = judge(held.operation, refusal, situation, conflict.policy);
  if (!type) return row_failure(held.origin, refusal, conninfo_);
  conflict.type = *type;
  conflict.key = situation.key;
  conflict.remote_row = situation.remote;
  return {};
}

Result<Situation> ConflictResolver::look(const HeldRow& change, const RowRefusal& refusal,
                                         ConflictPolicy policy) {
  ExactPath::note_formats(*change.table, *change.origin.block);
  const auto& plan = change.table->plan;
  std::vector<UniqueIndex> unique;
  if (proto::has_new_tuple(change.operation)) {
    ASSIGN_OR_RETURN(unique, indexes(change, refusal));
  }
  const auto shape = plain_shape(change);
  auto find = shape;
  find.action = RowAction::kFind;
  const bool findable = !plan.locator.empty() || shape.has_old;
  std::vector<RowStatement> questions;
  questions.push_back(build_description(plan, shape, known_values(change)));
  if (findable) questions.push_back(build_row_statement(plan, find));
  if (auto collisions = build_collisions(plan, shape, unique); !collisions.sql.empty())
    questions.push_back(std::move(collisions));
  RETURN_IF_ERROR(guarded_.begin());
  for (const auto& question : questions) {
    ASSIGN_OR_RETURN(const auto* parameters,
                     exact_.bind(*change.table, question.parameters, change.row));
    RETURN_IF_ERROR(guarded_.ask(question.sql, question.types, *parameters));
  }
  ASSIGN_OR_RETURN(const auto outcome, guarded_.look());
  Situation situation;
  if (outcome.refusal) {  // a value that cannot even be read
    if (policy == ConflictPolicy::kSkip && !may_be_drift(refusal)) return situation;
    return row_failure(change.origin, *outcome.refusal, conninfo_);
  }
  situation.key = outcome.answers[0][0][0];
  situation.remote = outcome.answers[0][0][1];
  if (findable) {
    for (const auto& row : outcome.answers[1]) situation.targets.push_back(local_row(row, 0));
  }
  const std::size_t last = findable ? 2 : 1;
  if (outcome.answers.size() > last) {
    for (const auto& row : outcome.answers[last])
      situation.collisions.push_back({row[0].value_or(""), local_row(row, 1)});
  }
  return situation;
}

// Asked again when an error names one that was not seen: it is of a partition, or new.
Result<std::vector<UniqueIndex>> ConflictResolver::indexes(const HeldRow& change,
                                                           const RowRefusal& refusal) {
  const auto [place, is_new] = known_.try_emplace(change.table);
  Known& known = place->second;
  const bool unseen = known.asked.insert(refusal.constraint).second;
  if (!is_new && !unseen) return known.indexes;
  RETURN_IF_ERROR(guarded_.begin());
  RETURN_IF_ERROR(guarded_.ask(unique_indexes_sql(),
                               {change.table->plan.target, refusal.schema, refusal.constraint}));
  ASSIGN_OR_RETURN(const auto outcome, guarded_.look());
  if (outcome.refusal) {
    return Error{ErrorCode::kStandby, fmt::format("cannot look for the unique indexes of {}: {}",
                                                  proto::qualified_name(change.table->relation),
                                                  outcome.refusal->message)};
  }
  for (auto& index : read_unique_indexes(outcome.answers[0])) {
    const bool seen =
        std::any_of(known.indexes.begin(), known.indexes.end(), [&](const UniqueIndex& other) {
          return other.name == index.name && other.table == index.table;
        });
    if (!seen) known.indexes.push_back(std::move(index));
  }
  return known.indexes;
}

Result<std::optional<HeldRow>> ConflictResolver::instead(const HeldRow& change,
                                                         const Situation& situation,
                                                         const Conflict& conflict) {
  if (conflict.policy != ConflictPolicy::kOverwrite ||
      conflict.type == ConflictType::kDeleteMissing)
    return std::optional<HeldRow>{};
  HeldRow then = change;
  if (updates(change) && situation.targets.empty()) {
    RETURN_IF_ERROR(complete(then));
    then.operation = pb::INSERT;
    then.row.old_tuple.clear();
  } else if (inserts(change) && situation.targets.size() == 1) {
    // So that columns which only the standby has stay.
    then.operation = pb::UPDATE_KEY;
    then.row.old_tuple = then.row.new_tuple;
  }
  return std::optional(std::move(then));
}

// A row can be inserted only if every value of it is known.
Result<void> ConflictResolver::complete(HeldRow& change) {
  auto& row = change.row;
  for (std::size_t i = 0; i < row.new_tuple.size(); ++i) {
    if (row.new_tuple[i].kind != proto::ValueKind::kUnchanged) continue;
    if (change.operation != pb::UPDATE_FULL) {
      const auto name = proto::qualified_name(change.table->relation);
      return Error{
          ErrorCode::kStandby,
          fmt::format("UPDATE of {}: no row with {} to overwrite, and the master did not send "
                      "column {}, which did not change",
                      name, row_name(change.origin, conninfo_),
                      change.table->relation.columns(static_cast<int>(i)).name()),
          fmt::format(
              "make the row on the standby as it was on the master, then start the receiver "
              "again; ALTER TABLE {} REPLICA IDENTITY FULL on the master has every column "
              "sent",
              name)};
    }
    row.new_tuple[i] = row.old_tuple[i];
  }
  return {};
}

Result<std::optional<RowRefusal>> ConflictResolver::act(const std::optional<HeldRow>& change,
                                                        const std::vector<LocalRow>& deletes,
                                                        const Conflict& conflict) {
  RETURN_IF_ERROR(guarded_.begin());
  if (change) {
    ASSIGN_OR_RETURN([[maybe_unused]] const bool sent,
                     exact_.make_ready(change->batch, change->origin, *change->table,
                                       change->operation, change->row));
  }
  for (const auto& row : deletes) {
    RETURN_IF_ERROR(
        guarded_.ask("DELETE FROM " + change->table->plan.target +
                         " WHERE tableoid = $1::pg_catalog.oid AND ctid = $2::pg_catalog.tid",
                     {row.table_oid, row.ctid}));
  }
  if (change)
    RETURN_IF_ERROR(exact_.write_guarded(change->batch, change->origin, *change->table,
                                         change->operation, change->row));
  RETURN_IF_ERROR(log_.write(conflict));
  ASSIGN_OR_RETURN(auto outcome, guarded_.end());
  if (outcome.refusal && outcome.refused.table == nullptr) {
    return Error{ErrorCode::kStandby,
                 fmt::format("{}.{}: a conflict could not be resolved and logged: {}",
                             conflict.schema, conflict.table, outcome.refusal->message),
                 {},
                 recovery_for_sqlstate(outcome.refusal->sqlstate)};
  }
  return std::move(outcome.refusal);
}

}  // namespace bitacora::apply
