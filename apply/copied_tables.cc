#include "apply/copied_tables.h"

#include <charconv>

#include <fmt/format.h>

#include "apply/empty_table.h"
#include "apply/own_tables.h"
#include "apply/standby_command.h"
#include "apply/text_array.h"
#include "proto/relation.h"

namespace bitacora::apply {
namespace {

constexpr const char* kTables = "copied_tables";
constexpr const char* kTablesDefinition =
    "(subscription text, schema_name text, table_name text, copied boolean NOT NULL, snapshot text,"
    " snapshot_lsn pg_lsn, hold_lsn pg_lsn NOT NULL, rows bigint, bytes bigint,"
    " started_at timestamptz, finished_at timestamptz,"
    " PRIMARY KEY (subscription, schema_name, table_name))";

// No foreign key: the session's replica role would not keep it.
constexpr const char* kParts = "copied_parts";
constexpr const char* kPartsDefinition =
    "(subscription text, schema_name text, table_name text, piece oid, begin_page bigint,"
    " end_page bigint, rows bigint NOT NULL, bytes bigint NOT NULL,"
    " PRIMARY KEY (subscription, schema_name, table_name, piece, begin_page, end_page))";

std::string name_of(const CopiedTable& table) {
  return proto::qualified_name(table.schema, table.name);
}

// NULL is zero. They are ours, and never negative.
template <class Number>
Number number(const std::optional<std::string>& field) {
  Number value = 0;
  if (field) std::from_chars(field->data(), field->data() + field->size(), value);
  return value;
}

MasterLsn lsn(const std::optional<std::string>& field) {
  return MasterLsn{field ? parse_lsn(*field).value_or(0) : 0};
}

// `sql` answers a row when the table is one of the subscription's.
Result<void> change_noted(StandbySession& standby, const std::string& doing, const std::string& sql,
                          const std::vector<std::string>& parameters) {
  ASSIGN_OR_RETURN(const auto rows, standby.query(doing, sql, parameters));
  if (rows.size() == 1) return {};
  return Error{ErrorCode::kState, doing + ": bitacora.copied_tables has no row of it"};
}

Result<void> note_restart(StandbySession& standby, const std::string& subscription,
                          const CopiedTable& table) {
  return change_noted(
      standby, fmt::format("cannot begin the copy of {}", name_of(table)),
      "WITH forgotten AS (DELETE FROM bitacora.copied_parts"
      "  WHERE (subscription, schema_name, table_name) = ($1, $2, $3))"
      " UPDATE bitacora.copied_tables SET copied = false, snapshot = $4, snapshot_lsn = $5::pg_lsn,"
      " rows = NULL, bytes = NULL, started_at = clock_timestamp(), finished_at = NULL"
      " WHERE (subscription, schema_name, table_name) = ($1, $2, $3) RETURNING 1",
      {subscription, table.schema, table.name, table.snapshot, to_string(table.snapshot_lsn)});
}

}  // namespace

Result<void> ensure_copied_tables(StandbySession& standby) {
  RETURN_IF_ERROR(ensure_own_table(standby, kTables, kTablesDefinition));
  return ensure_own_table(standby, kParts, kPartsDefinition);
}

Result<std::vector<CopiedTable>> load_copied_tables(StandbySession& standby,
                                                    const std::string& subscription) {
  ASSIGN_OR_RETURN(const bool exists, own_table_exists(standby, kTables));
  if (!exists) return std::vector<CopiedTable>{};
  ASSIGN_OR_RETURN(const auto rows,
                   standby.query("cannot read bitacora.copied_tables",
                                 "SELECT schema_name, table_name, copied, snapshot, snapshot_lsn,"
                                 " hold_lsn, rows, bytes FROM bitacora.copied_tables"
                                 " WHERE subscription = $1"
                                 " ORDER BY schema_name COLLATE \"C\", table_name COLLATE \"C\"",
                                 {subscription}));
  std::vector<CopiedTable> tables;
  for (const auto& row : rows) {
    tables.push_back({*row[0], *row[1], row[2] == "t", row[3].value_or(""), lsn(row[4]),
                      lsn(row[5]), number<std::uint64_t>(row[6]), number<std::uint64_t>(row[7])});
  }
  return tables;
}

Result<std::vector<CopiedPart>> load_copied_parts(StandbySession& standby,
                                                  const std::string& subscription,
                                                  const CopiedTable& table) {
  ASSIGN_OR_RETURN(const bool exists, own_table_exists(standby, kParts));
  if (!exists) return std::vector<CopiedPart>{};
  ASSIGN_OR_RETURN(
      const auto rows,
      standby.query("cannot read bitacora.copied_parts",
                    "SELECT piece, begin_page, end_page, rows, bytes FROM bitacora.copied_parts"
                    " WHERE (subscription, schema_name, table_name) = ($1, $2, $3)"
                    " ORDER BY piece, begin_page, end_page",
                    {subscription, table.schema, table.name}));
  std::vector<CopiedPart> parts;
  for (const auto& row : rows) {
    parts.push_back({number<std::uint32_t>(row[0]), number<std::uint64_t>(row[1]),
                     number<std::uint64_t>(row[2]), number<std::uint64_t>(row[3]),
                     number<std::uint64_t>(row[4])});
  }
  return parts;
}

// One statement: it is all or nothing in whatever transaction it runs.
Result<void> add_copied_tables(StandbySession& standby, const std::string& subscription,
                               const std::vector<CopiedTable>& tables) {
  TextArray schemas, names, holds;
  for (const auto& table : tables) {
    schemas.add(table.schema);
    names.add(table.name);
    holds.add(to_string(table.hold_lsn));
  }
  const auto added = standby.query(
      "cannot note the tables to copy",
      "WITH added AS (SELECT * FROM unnest($2::text[], $3::text[], $4::pg_lsn[]) AS"
      "  added (schema_name, table_name, hold_lsn)),"
      " forgotten AS (DELETE FROM bitacora.copied_parts USING added WHERE subscription = $1 AND"
      "  (copied_parts.schema_name, copied_parts.table_name) ="
      "  (added.schema_name, added.table_name))"
      " INSERT INTO bitacora.copied_tables (subscription, schema_name, table_name, hold_lsn, "
      "copied)"
      " SELECT $1, schema_name, table_name, hold_lsn, false FROM added"
      " ON CONFLICT (subscription, schema_name, table_name) DO UPDATE SET"
      " hold_lsn = EXCLUDED.hold_lsn, copied = false, snapshot = NULL, snapshot_lsn = NULL,"
      " rows = NULL, bytes = NULL, started_at = NULL, finished_at = NULL",
      {subscription, schemas.text(), names.text(), holds.text()});
  return added.ok() ? Result<void>{} : added.error();
}

Result<void> restart_copied_table(StandbySession& standby, const std::string& subscription,
                                  const CopiedTable& table, const TargetRows& target) {
  const auto doing = fmt::format("cannot begin the copy of {}", name_of(table));
  return in_transaction(standby, doing, [&]() -> Result<void> {
    RETURN_IF_ERROR(empty_table(standby, target));
    return note_restart(standby, subscription, table);
  });
}

Result<void> restart_whole_tables(StandbySession& standby, const std::string& subscription,
                                  const std::vector<CopiedTable>& tables) {
  if (tables.empty()) return {};
  TextArray schemas, names, snapshots, lsns;
  for (const auto& table : tables) {
    schemas.add(table.schema);
    names.add(table.name);
    snapshots.add(table.snapshot);
    lsns.add(to_string(table.snapshot_lsn));
  }
  const auto* const doing = "cannot begin the copy of whole tables";
  ASSIGN_OR_RETURN(
      const auto noted,
      standby.query(
          doing,
          "WITH anew AS (SELECT * FROM unnest($2::text[], $3::text[], $4::text[], $5::pg_lsn[]) AS"
          "  anew (schema_name, table_name, snapshot, snapshot_lsn)),"
          " forgotten AS (DELETE FROM bitacora.copied_parts USING anew WHERE subscription = $1 AND"
          "  (copied_parts.schema_name, copied_parts.table_name) ="
          "  (anew.schema_name, anew.table_name))"
          " UPDATE bitacora.copied_tables SET copied = false, snapshot = anew.snapshot,"
          "  snapshot_lsn = anew.snapshot_lsn, rows = NULL, bytes = NULL,"
          "  started_at = clock_timestamp(), finished_at = NULL FROM anew"
          " WHERE subscription = $1 AND (copied_tables.schema_name, copied_tables.table_name) ="
          "  (anew.schema_name, anew.table_name) RETURNING 1",
          {subscription, schemas.text(), names.text(), snapshots.text(), lsns.text()}));
  if (noted.size() == tables.size()) return {};
  return Error{ErrorCode::kState,
               fmt::format("{}: bitacora.copied_tables has no row of some", doing)};
}

Result<void> finish_copied_table(StandbySession& standby, const std::string& subscription,
                                 const CopiedTable& table) {
  return change_noted(
      standby, fmt::format("cannot end the copy of {}", name_of(table)),
      "WITH gone AS (DELETE FROM bitacora.copied_parts"
      "  WHERE (subscription, schema_name, table_name) = ($1, $2, $3) RETURNING rows, bytes),"
      " whole AS (SELECT coalesce(sum(rows), 0) AS rows, coalesce(sum(bytes), 0) AS bytes FROM "
      "gone)"
      " UPDATE bitacora.copied_tables SET copied = true, rows = whole.rows, bytes = whole.bytes,"
      " finished_at = clock_timestamp() FROM whole"
      " WHERE (subscription, schema_name, table_name) = ($1, $2, $3) RETURNING 1",
      {subscription, table.schema, table.name});
}

Result<void> release_copied_tables(StandbySession& standby, const std::string& subscription,
                                   const std::vector<CopiedTable>& tables,
                                   const std::string& replay) {
  if (tables.empty() && replay.empty()) return {};
  TextArray schemas, names;
  for (const auto& table : tables) {
    schemas.add(table.schema);
    names.add(table.name);
  }
  const auto released = standby.query(
      "cannot release the copied tables",
      "WITH ended AS (DELETE FROM bitacora.progress WHERE subscription = $4)"
      " UPDATE bitacora.copied_tables SET hold_lsn = '0/0' FROM"
      "  unnest($2::text[], $3::text[]) AS released (schema_name, table_name)"
      " WHERE subscription = $1 AND (copied_tables.schema_name, copied_tables.table_name) ="
      "  (released.schema_name, released.table_name)",
      {subscription, schemas.text(), names.text(), replay});
  return released.ok() ? Result<void>{} : released.error();
}

Result<void> end_first_copy(StandbySession& standby, const std::string& subscription,
                            MasterLsn from) {
  const auto ended = standby.query(
      "cannot end the first copy",
      "WITH released AS (UPDATE bitacora.copied_tables SET hold_lsn = '0/0'"
      "  WHERE subscription = $1)"
      " UPDATE bitacora.progress SET applied_lsn = $2::pg_lsn, updated_at = clock_timestamp()"
      " WHERE subscription = $1 AND applied_lsn = '0/0'",
      {subscription, to_string(from)});
  return ended.ok() ? Result<void>{} : ended.error();
}

Result<void> give_up_copied_table(StandbySession& standby, const std::string& subscription,
                                  const CopiedTable& table) {
  RETURN_IF_ERROR(note_restart(standby, subscription, table));
  return finish_copied_table(standby, subscription, table);
}

}  // namespace bitacora::apply
