#include "apply/schema_steps.h"

#include <charconv>

#include <fmt/format.h>

#include "apply/own_tables.h"
#include "apply/schema_entry.h"
#include "apply/standby_command.h"
#include "apply/text_array.h"
#include "proto/relation.h"

namespace bitacora::apply {
namespace {

constexpr const char* kTable = "schema_steps";
constexpr const char* kDefinition =
    "(subscription text, number bigint, type text NOT NULL, name text NOT NULL, sql text NOT NULL,"
    " builds boolean NOT NULL, PRIMARY KEY (subscription, number))";

constexpr std::int64_t kAnalyzeNumbers = std::int64_t{1} << 40;  // behind those of all entries

std::string name_of(const pb::SchemaEntry& entry) {
  return entry.schema().empty() ? proto::quoted_name(entry.name())
                                : proto::qualified_name(entry.schema(), entry.name());
}

Error cannot_make(StandbySession& standby, const pb::SchemaEntry& entry,
                  const CommandOutcome& refusal) {
  Error error = *refusal.error;
  error.hint = hint_for({entry.type(), entry.schema(), entry.name(), refusal.sqlstate,
                         PQuser(standby.connection()), PQdb(standby.connection())});
  // One transaction locks all that it makes: the next time the server's table of locks is as small.
  if (error.message.find("max_locks_per_transaction") != std::string::npos) {
    error.recovery = Recovery::kStop;
    error.hint = "raise max_locks_per_transaction on the standby and restart it";
  }
  return error;
}

// One round trip unless it is refused.
Result<void> make(StandbySession& standby, const pb::SchemaEntry& entry,
                  std::vector<std::string>& kept) {
  const auto doing = fmt::format("cannot make {} {}", entry.type(), name_of(entry));
  const auto made =
      execute(standby, doing,
              // The SQL may end in a comment or without a semicolon.
              fmt::format("SAVEPOINT entry;\n{}\n; RELEASE SAVEPOINT entry", entry.sql()));
  if (made.ok()) return {};
  if (!there_already(entry.type(), made.sqlstate)) return cannot_make(standby, entry, made);
  kept.push_back(name_of(entry));
  return execute(standby, doing, "ROLLBACK TO SAVEPOINT entry; RELEASE SAVEPOINT entry").result();
}

Result<void> note_steps(StandbySession& standby, const std::string& subscription,
                        const pb::DumpedSchema& schema) {
  if (schema.post_data().empty()) return {};
  TextArray types, names, statements, builds;
  for (const auto& entry : schema.post_data()) {
    types.add(entry.type());
    names.add(name_of(entry));
    statements.add(entry.sql());
    builds.add(builds_an_index(entry.type(), entry.sql()) ? "t" : "f");
  }
  const auto noted = standby.query(
      "cannot note what comes after the data",
      "INSERT INTO bitacora.schema_steps (subscription, number, type, name, sql, builds)"
      " SELECT $1, before.number + step.number, type, name, sql, builds"
      " FROM unnest($2::text[], $3::text[], $4::text[], $5::boolean[]) WITH ORDINALITY"
      "  AS step (type, name, sql, builds, number), (SELECT coalesce(max(number), 0) AS number"
      "  FROM bitacora.schema_steps WHERE subscription = $1 AND number < $6::bigint) AS before",
      {subscription, types.text(), names.text(), statements.text(), builds.text(),
       std::to_string(kAnalyzeNumbers)});
  return noted.ok() ? Result<void>{} : noted.error();
}

}  // namespace

Result<void> ensure_schema_steps(StandbySession& standby) {
  return ensure_own_table(standby, kTable, kDefinition);
}

Result<std::vector<std::string>> begin_schema(StandbySession& standby,
                                              const std::string& subscription,
                                              const pb::DumpedSchema& schema) {
  std::vector<std::string> kept;
  const auto begun = in_transaction(standby, "cannot make the schema", [&]() -> Result<void> {
    RETURN_IF_ERROR(ensure_schema_steps(standby));
    // A function may come before what its body mentions.
    RETURN_IF_ERROR(
        execute(standby, "cannot make the schema", "SET LOCAL check_function_bodies = off")
            .result());
    for (const auto& entry : schema.pre_data()) RETURN_IF_ERROR(make(standby, entry, kept));
    return note_steps(standby, subscription, schema);
  });
  if (!begun.ok()) return begun.error();
  return kept;
}

Result<void> add_analyze_step(StandbySession& standby, const std::string& subscription,
                              std::uint32_t relation, const std::string& name,
                              const std::string& target) {
  const auto number = kAnalyzeNumbers + relation;
  const auto noted = standby.query(
      fmt::format("cannot note that {} is to be analyzed", name),
      "INSERT INTO bitacora.schema_steps (subscription, number, type, name, sql, builds)"
      " VALUES ($1, $2, 'ANALYZE', $3, $4, false) ON CONFLICT (subscription, number) DO NOTHING",
      {subscription, std::to_string(number), name, "ANALYZE " + target});
  return noted.ok() ? Result<void>{} : noted.error();
}

Result<std::vector<SchemaStep>> load_schema_steps(StandbySession& standby,
                                                  const std::string& subscription) {
  ASSIGN_OR_RETURN(const bool exists, own_table_exists(standby, kTable));
  if (!exists) return std::vector<SchemaStep>{};
  ASSIGN_OR_RETURN(const auto rows,
                   standby.query("cannot read bitacora.schema_steps",
                                 "SELECT number, type, name, sql, builds FROM bitacora.schema_steps"
                                 " WHERE subscription = $1 ORDER BY number",
                                 {subscription}));
  std::vector<SchemaStep> steps;
  for (const auto& row : rows) {
    SchemaStep step{0, *row[1], *row[2], *row[3], row[4] == "t", table_of(*row[3])};
    std::from_chars(row[0]->data(), row[0]->data() + row[0]->size(), step.number);
    steps.push_back(std::move(step));
  }
  return steps;
}

}  // namespace bitacora::apply
