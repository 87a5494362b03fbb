#include "apply/conflict.h"

#include <algorithm>
#include <set>

#include "apply/row_statement.h"

namespace bitacora::apply {
namespace {

bool is_collision(const RowRefusal& refusal) {
  return refusal.sqlstate == "23505" || refusal.sqlstate == "23P01";
}

bool found_no_single_row(const RowRefusal& refusal) {
  return refusal.sqlstate == kAssertionSqlstate;
}

}  // namespace

const char* name_of(ConflictType type) {
  switch (type) {
    case ConflictType::kInsertExists:
      return "insert_exists";
    case ConflictType::kUpdateExists:
      return "update_exists";
    case ConflictType::kMultipleUniqueConflicts:
      return "multiple_unique_conflicts";
    case ConflictType::kUpdateMissing:
      return "update_missing";
    case ConflictType::kDeleteMissing:
      return "delete_missing";
    case ConflictType::kRowRefused:
      break;
  }
  return "row_refused";
}

const char* operation_name(pb::RowOperation operation) {
  if (operation == pb::INSERT) return "INSERT";
  return proto::has_new_tuple(operation) ? "UPDATE" : "DELETE";
}

std::size_t Situation::indexes_violated() const {
  std::set<std::string> indexes;
  for (const auto& collision : collisions) {
    const bool own = std::find(targets.begin(), targets.end(), collision.row) != targets.end();
    if (!own) indexes.insert(collision.index);
  }
  return indexes.size();
}

std::vector<LocalRow> Situation::obstacles() const {
  std::vector<LocalRow> rows;
  for (const auto& collision : collisions) {
    const bool known = std::find(targets.begin(), targets.end(), collision.row) != targets.end() ||
                       std::find(rows.begin(), rows.end(), collision.row) != rows.end();
    if (!known) rows.push_back(collision.row);
  }
  return rows;
}

bool may_be_drift(const RowRefusal& refusal) {
  return is_collision(refusal) || found_no_single_row(refusal);
}

std::optional<ConflictType> judge(pb::RowOperation operation, const RowRefusal& refusal,
                                  const Situation& situation, ConflictPolicy policy) {
  // Its rows come here with those of another table that goes to the same one.
  if (policy == ConflictPolicy::kError) return std::nullopt;
  const bool inserts = operation == pb::INSERT;
  if (is_collision(refusal)) {
    // An INSERT's target, a row with its key, is in its way too.
    auto all = situation;
    if (inserts) all.targets.clear();
    if (all.indexes_violated() > 1) return ConflictType::kMultipleUniqueConflicts;
    return inserts ? ConflictType::kInsertExists : ConflictType::kUpdateExists;
  }
  if (!inserts && found_no_single_row(refusal) && situation.targets.empty())
    return proto::has_new_tuple(operation) ? ConflictType::kUpdateMissing
                                           : ConflictType::kDeleteMissing;
  const bool of_the_row = refusal.sqlstate.starts_with("22") || refusal.sqlstate.starts_with("23");
  if (policy == ConflictPolicy::kSkip && of_the_row) return ConflictType::kRowRefused;
  return std::nullopt;
}

}  // namespace bitacora::apply
