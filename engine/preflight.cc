#include "engine/preflight.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "apply/row_statement.h"
#include "apply/standby_catalog.h"
#include "apply/table_map.h"
#include "base/log.h"
#include "proto/relation.h"

namespace bitacora::engine {
namespace {

// A table may still be created; a name that is misspelt would leave its table with `error`.
void warn_of_idle_rules(const apply::ConflictPolicies& conflicts, const pb::Welcome& welcome) {
  for (const auto& rule : conflicts.rules()) {
    const auto& relations = welcome.relations();
    const bool used = std::any_of(relations.begin(), relations.end(), [&](const auto& relation) {
      return rule.tables.matches(relation.schema(), relation.name());
    });
    if (used) continue;
    spdlog::warn(
        "event=conflict_rule_idle rule=\"{}\" meaning=\"no published table matches it\" "
        "hint=\"write schema.table as on the master, with * and ? as wildcards\"",
        rule.text);
  }
}

// Misspelt perhaps. A table may still be created.
Result<void> look_for_idle_patterns(const ReceiverOptions& options, const pb::Welcome& welcome) {
  std::vector<std::string> idle(welcome.idle_patterns().begin(), welcome.idle_patterns().end());
  const auto rules = options.targets.unused(
      std::vector<pb::Relation>(welcome.relations().begin(), welcome.relations().end()));
  idle.insert(idle.end(), rules.begin(), rules.end());
  if (idle.empty()) return {};
  const auto text = fmt::format("{}", fmt::join(idle, ", "));
  const auto* const hint =
      "compare them with the tables that the sender ships: bitacora sender --plan";
  if (options.common.strict) {
    return Error{ErrorCode::kConfiguration, "nothing that the sender ships matches " + text, hint};
  }
  spdlog::warn("event=pattern_matches_nothing pattern=\"{}\" hint=\"{}\"", text, hint);
  return {};
}

}  // namespace

Result<std::vector<pb::Relation>> missing_tables(const ReceiverOptions& options,
                                                 const pb::Welcome& welcome) {
  ASSIGN_OR_RETURN(const auto patterns, TablePatterns::parse(options.tables));
  apply::StandbyCatalog catalog(options.standby);
  std::vector<pb::Relation> missing;
  for (const auto& relation : welcome.relations()) {
    if (!patterns.matches(relation.schema(), relation.name())) continue;
    if (options.targets.renames(relation.schema(), relation.name())) continue;
    ASSIGN_OR_RETURN(const auto table, catalog.table(relation.schema(), relation.name()));
    if (!table) missing.push_back(relation);
  }
  return missing;
}

Result<std::vector<apply::SourceTable>> taken_tables(const ReceiverOptions& options,
                                                     const pb::Welcome& welcome) {
  ASSIGN_OR_RETURN(const auto patterns, TablePatterns::parse(options.tables));
  std::vector<apply::SourceTable> tables;
  for (const auto& relation : welcome.relations()) {
    if (patterns.matches(relation.schema(), relation.name()))
      tables.push_back({{relation.schema(), relation.name()}, relation.oid()});
  }
  return tables;
}

Result<void> preflight(apply::StandbySession& standby, const ReceiverOptions& options,
                       const pb::Welcome& welcome) {
  ASSIGN_OR_RETURN(auto patterns, TablePatterns::parse(options.tables));
  RETURN_IF_ERROR(look_for_idle_patterns(options, welcome));
  ASSIGN_OR_RETURN(const auto taken, taken_tables(options, welcome));
  RETURN_IF_ERROR(
      apply::check_targets(standby, options.name, apply::targets_of(options.targets, taken)));
  apply::StandbyCatalog catalog(options.standby);
  apply::TableScope scope{std::move(patterns)};
  scope.targets = options.targets;
  apply::TableMap tables(catalog, std::move(scope));
  for (const auto& type : welcome.types()) tables.describe(type);
  for (const auto& relation : welcome.relations()) tables.describe(relation);
  std::vector<std::string> fire;
  for (const auto& relation : welcome.relations()) {
    ASSIGN_OR_RETURN(const auto* table, tables.table(relation.oid()));
    if (!table->taken) continue;
    if (table->plan.fires) fire.push_back(proto::qualified_name(relation));
    const auto insert = apply::build_row_statement(
        table->plan, {apply::RowAction::kInsert, false, false, table->text_columns});
    const auto accepted = standby.validate(insert.sql, insert.types);
    if (accepted.ok()) continue;
    Error error = accepted.error();
    error.message = fmt::format("standby table {} does not take what the master sends: {}",
                                proto::qualified_name(relation), error.message);
    error.hint =
        "give the columns types that the master's values can be cast to, or leave the table out "
        "with --tables";
    return error;
  }
  if (!fire.empty()) {
    spdlog::warn(
        "event=triggers_fire tables=\"{}\" meaning=\"their ALWAYS or REPLICA triggers or rules act "
        "on the standby too, row by row\"",
        fmt::join(fire, ", "));
  }
  warn_of_idle_rules(options.conflicts, welcome);
  return {};
}

}  // namespace bitacora::engine
