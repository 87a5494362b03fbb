#include "apply/target_registry.h"

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

Error written_by_another(const std::string& table, const std::string& subscription) {
  return {ErrorCode::kConfiguration,
          fmt::format("the standby's table {} is written by receiver {} too", table, subscription),
          fmt::format("if that is meant, say shared = true in the [table.'...'] section of both, "
                      "with constants that tell their rows apart; if {} is no more: DELETE FROM "
                      "bitacora.progress WHERE subscription = '{}'",
                      subscription, subscription)};
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
  RETURN_IF_ERROR(ensure_own_table(standby, "targets", kDefinition));
  const auto* const doing = "cannot note which tables are written";
  return in_transaction(standby, doing, [&]() -> Result<void> {
    // Of two that begin at the same time the later one sees the other.
    RETURN_IF_ERROR(
        execute(standby, doing, "LOCK TABLE bitacora.targets IN SHARE ROW EXCLUSIVE MODE")
            .result());
    RETURN_IF_ERROR(check_targets(standby, subscription, targets));
    const auto noted = standby.query(
        doing,
        fmt::format(
            "WITH ours AS (SELECT * FROM {}), gone AS (DELETE FROM bitacora.targets t WHERE "
            "t.subscription = $1 AND NOT EXISTS (SELECT FROM ours WHERE (ours.schema_name, "
            "ours.table_name) = (t.schema_name, t.table_name))) INSERT INTO bitacora.targets "
            "(subscription, schema_name, table_name, shared) SELECT $1, schema_name, table_name, "
            "bool_or(shared) FROM ours GROUP BY 2, 3 ON CONFLICT (subscription, schema_name, "
            "table_name) DO UPDATE SET shared = excluded.shared",
            kOurs),
        parameters(subscription, targets));
    return noted.ok() ? Result<void>{} : noted.error();
  });
}

}  // namespace bitacora::apply
