#include "apply/target_registry.h"

#include <algorithm>

#include <fmt/format.h>

#include "apply/own_tables.h"
#include "apply/standby_command.h"
#include "apply/text_array.h"
#include "proto/relation.h"

namespace bitacora::apply {
namespace {

constexpr const char* kDefinition =
    "(subscription text, schema_name text, table_name text, shared boolean NOT NULL,"
    " PRIMARY KEY (subscription, schema_name, table_name))";

constexpr const char* kOurs =
    "unnest($2::text[], $3::text[], $4::boolean[]) AS ours (schema_name, table_name, shared)";

std::vector<std::string> parameters(const std::string& subscription,
                                    const std::vector<RegisteredTarget>& targets) {
  TextArray schemas, tables, shared;
  for (const auto& target : targets) {
    schemas.add(target.table.schema);
    tables.add(target.table.table);
    shared.add(target.shared ? "t" : "f");
  }
  return {subscription, schemas.text(), tables.text(), shared.text()};
}

// A DELETE: of what was noted before.
std::string forget_others() {
  return fmt::format(
      "DELETE FROM bitacora.targets t WHERE t.subscription = $1 AND NOT EXISTS (SELECT FROM {} "
      "WHERE (ours.schema_name, ours.table_name) = (t.schema_name, t.table_name))",
      kOurs);
}

std::string note_ours() {
  return fmt::format(
      "INSERT INTO bitacora.targets (subscription, schema_name, table_name, shared) SELECT $1, "
      "schema_name, table_name, bool_or(shared) FROM {} GROUP BY 2, 3 ON CONFLICT (subscription, "
      "schema_name, table_name) DO UPDATE SET shared = excluded.shared",
      kOurs);
}

Error written_by_another(const std::string& table, const std::string& subscription) {
  return {ErrorCode::kConfiguration,
          fmt::format("the standby's table {} is written by receiver {} too", table, subscription),
          fmt::format("if that is meant, say shared = true in the [table.'...'] section of both, "
                      "with constants that tell their rows apart; if {} is no more: DELETE FROM "
                      "bitacora.progress WHERE subscription = '{}'",
                      subscription, subscription)};
}

// With all the statements, after the others were looked at.
Result<void> write_targets(StandbySession& standby, const std::string& subscription,
                           const std::vector<RegisteredTarget>& targets,
                           const std::vector<std::string>& statements) {
  RETURN_IF_ERROR(ensure_own_table(standby, "targets", kDefinition));
  const auto* const doing = "cannot note which tables are written";
  return in_transaction(standby, doing, [&]() -> Result<void> {
    // Of two that begin at the same time the later one sees the other.
    RETURN_IF_ERROR(
        execute(standby, doing, "LOCK TABLE bitacora.targets IN SHARE ROW EXCLUSIVE MODE")
            .result());
    RETURN_IF_ERROR(check_targets(standby, subscription, targets));
    for (const auto& statement : statements) {
      const auto done = standby.query(doing, statement, parameters(subscription, targets));
      if (!done.ok()) return done.error();
    }
    return {};
  });
}

}  // namespace

Result<void> check_targets(StandbySession& standby, const std::string& subscription,
                           const std::vector<RegisteredTarget>& targets) {
  ASSIGN_OR_RETURN(const bool exists, own_table_exists(standby, "targets"));
  if (!exists) return {};
  ASSIGN_OR_RETURN(
      const auto others,
      standby.query("cannot look for others that write the same tables",
                    fmt::format("SELECT t.subscription, t.schema_name, t.table_name FROM "
                                "bitacora.targets t JOIN bitacora.progress USING (subscription)"
                                " JOIN {} USING (schema_name, table_name) WHERE t.subscription <> "
                                "$1 AND NOT (t.shared AND ours.shared) ORDER BY 2, 3 LIMIT 1",
                                kOurs),
                    parameters(subscription, targets)));
  if (others.empty()) return {};
  const auto& other = others[0];
  return written_by_another(proto::qualified_name(*other[1], *other[2]), *other[0]);
}

Result<void> register_targets(StandbySession& standby, const std::string& subscription,
                              const std::vector<RegisteredTarget>& targets) {
  return write_targets(standby, subscription, targets, {forget_others(), note_ours()});
}

Result<void> add_targets(StandbySession& standby, const std::string& subscription,
                         const std::vector<RegisteredTarget>& targets) {
  return write_targets(standby, subscription, targets, {note_ours()});
}

Result<void> check_apart(const TargetRules& rules, const TargetName& a, const TargetName& b) {
  const auto target = rules.target(a.schema, a.table);
  if (a == b || rules.target(b.schema, b.table) != target || rules.may_share(a, b)) return {};
  return Error{ErrorCode::kConfiguration,
               fmt::format("{} and {} of the master would both go to {} of the standby",
                           proto::qualified_name(a.schema, a.table),
                           proto::qualified_name(b.schema, b.table),
                           proto::qualified_name(target.schema, target.table)),
               "if that is meant, say shared = true in the [table.'...'] section of each, with "
               "constants that tell their rows apart; else give one of them another name"};
}

std::vector<RegisteredTarget> targets_of(const TargetRules& rules,
                                         const std::vector<SourceTable>& tables) {
  std::vector<RegisteredTarget> targets;
  for (const auto& [name, oid] : tables)
    targets.push_back(
        {rules.target(name.schema, name.table), rules.shares(name.schema, name.table)});
  return targets;
}

Result<void> TargetClaims::begin(StandbySession& standby, const std::vector<SourceTable>& tables) {
  const std::lock_guard lock(mutex_);
  auto all = tables;  // the spool may have brought some before the sender was there
  for (const auto& [name, oid] : claimed_) all.push_back({name, oid});
  RETURN_IF_ERROR(register_targets(standby, subscription_, targets_of(rules_, all)));
  note(tables);
  return {};
}

Result<void> TargetClaims::check(StandbySession& standby, const std::vector<SourceTable>& tables) {
  const std::lock_guard lock(mutex_);
  RETURN_IF_ERROR(check_apart_from_others(tables));
  return check_targets(standby, subscription_, targets_of(rules_, tables));
}

Result<void> TargetClaims::claim(const std::vector<SourceTable>& tables) {
  const std::lock_guard lock(mutex_);
  if (std::all_of(tables.begin(), tables.end(),
                  [this](const SourceTable& table) { return claimed(table); }))
    return {};
  RETURN_IF_ERROR(check_apart_from_others(tables));
  ASSIGN_OR_RETURN(auto standby, StandbySession::connect(conninfo_, "bitacora_" + subscription_));
  RETURN_IF_ERROR(add_targets(standby, subscription_, targets_of(rules_, tables)));
  note(tables);
  return {};
}

// One that was dropped and made again is looked at anew: its name may be another's meanwhile.
bool TargetClaims::claimed(const SourceTable& table) const {
  const auto known = claimed_.find(table.name);
  return known != claimed_.end() && (table.oid == 0 || table.oid == known->second);
}

Result<void> TargetClaims::check_apart_from_others(const std::vector<SourceTable>& tables) const {
  auto others = shipped_();
  for (const auto& [name, oid] : claimed_) others.push_back({name, oid});
  others.insert(others.end(), tables.begin(), tables.end());
  for (const auto& table : tables) {
    auto oid = table.oid;
    for (const auto& other : others) {
      if (oid == 0 && other.name == table.name) oid = other.oid;
    }
    for (const auto& other : others) {
      if (oid != 0 && other.oid == oid) continue;
      RETURN_IF_ERROR(check_apart(rules_, table.name, other.name));
    }
  }
  return {};
}

void TargetClaims::note(const std::vector<SourceTable>& tables) {
  for (const auto& table : tables) {
    auto& oid = claimed_[table.name];
    if (table.oid != 0) oid = table.oid;
  }
}

}  // namespace bitacora::apply
