#include "engine/begin_anew.h"

#include <algorithm>
#include <filesystem>
#include <iostream>

#include <fmt/format.h>

#include "apply/checkpoint.h"
#include "apply/copied_tables.h"
#include "apply/own_tables.h"
#include "apply/progress.h"
#include "apply/standby_command.h"
#include "apply/standby_session.h"
#include "engine/connect_hint.h"
#include "proto/relation.h"

namespace bitacora::engine {
namespace {

namespace fs = std::filesystem;

bool has(const std::vector<apply::CopiedTable>& tables, const apply::TargetName& source) {
  return std::any_of(tables.begin(), tables.end(), [&](const apply::CopiedTable& table) {
    return table.schema == source.schema && table.name == source.table;
  });
}

Result<bool> writes(apply::StandbySession& standby, const std::string& name,
                    const apply::TargetName& target) {
  ASSIGN_OR_RETURN(const bool exists, apply::own_table_exists(standby, "targets"));
  if (!exists) return false;
  ASSIGN_OR_RETURN(
      const auto rows,
      standby.query("cannot read bitacora.targets",
                    "SELECT FROM bitacora.targets WHERE (subscription, schema_name, table_name) = "
                    "($1, $2, $3)",
                    {name, target.schema, target.table}));
  return !rows.empty();
}

Result<bool> holds_rows(apply::StandbySession& standby, const apply::TargetName& target) {
  const auto doing =
      fmt::format("cannot look into {}", proto::qualified_name(target.schema, target.table));
  const auto table =
      proto::sql_identifier(target.schema) + "." + proto::sql_identifier(target.table);
  ASSIGN_OR_RETURN(const auto there,
                   standby.query(doing, "SELECT pg_catalog.to_regclass($1)", {table}));
  if (!there[0][0]) return false;
  ASSIGN_OR_RETURN(const auto rows,
                   standby.query(doing, fmt::format("SELECT FROM {} LIMIT 1", table)));
  return !rows.empty();
}

// --truncate leaves such tables alone: what this receiver wrote there would be there twice.
Result<void> check_can_be_copied_anew(apply::StandbySession& standby,
                                      const ReceiverOptions& options) {
  const auto& name = options.name;
  ASSIGN_OR_RETURN(const auto copied, apply::load_copied_tables(standby, name));
  for (const auto& source : options.targets.mingled()) {
    const auto target = options.targets.target(source.schema, source.table);
    ASSIGN_OR_RETURN(const bool written, writes(standby, name, target));
    if (!written && !has(copied, source)) continue;
    ASSIGN_OR_RETURN(const bool filled, holds_rows(standby, target));
    if (!filled) continue;
    return Error{
        ErrorCode::kConfiguration,
        fmt::format("receiver {}: {} cannot be copied anew: {} has rows of others too, and nothing "
                    "tells whose a row is",
                    name, proto::qualified_name(source.schema, source.table),
                    proto::qualified_name(target.schema, target.table)),
        fmt::format("give its [table.'...'] section constants that tell its rows from the others'; "
                    "or delete its rows there, then DELETE FROM bitacora.targets WHERE "
                    "subscription = '{}' and the same FROM bitacora.copied_tables",
                    name)};
  }
  return {};
}

// What is left to be made after a copy (bitacora.schema_steps) stays to be made.
Result<void> forget_rows(apply::StandbySession& standby, const std::string& name) {
  return apply::in_transaction(standby, "cannot forget what was applied", [&]() -> Result<void> {
    for (const std::string table : {"progress", "copied_parts", "copied_tables", "targets"}) {
      ASSIGN_OR_RETURN(const bool exists, apply::own_table_exists(standby, table));
      if (!exists) continue;
      // A receiver that is killed while tables catch up with the others leaves a second row.
      const auto deleted = standby.query(
          "cannot forget what was applied",
          fmt::format("DELETE FROM bitacora.{} WHERE subscription IN ($1, $1 || ' resync')", table),
          {name});
      if (!deleted.ok()) return deleted.error();
    }
    return {};
  });
}

// Holding its lock, which goes with the directory's descriptor, not with the files.
Result<void> forget_files(const fs::path& directory) {
  ASSIGN_OR_RETURN(const auto ours, apply::Checkpoint::open(directory));
  std::error_code code;
  fs::remove_all(directory / "spool", code);
  for (const char* file : {"data.mdb", "lock.mdb"}) {
    if (!code) fs::remove(directory / file, code);
  }
  if (!code) return {};
  return Error{ErrorCode::kConfiguration,
               fmt::format("data directory {}: {}", directory.string(), code.message()),
               "let this user remove what is in it, then do it again"};
}

}  // namespace

Result<void> run_begin_anew(const ReceiverOptions& options) {
  auto standby = apply::StandbySession::connect(options.standby, "bitacora receiver --begin-anew");
  if (!standby.ok()) return with_connect_hint(standby.error(), "--standby");
  ASSIGN_OR_RETURN(const bool locked, standby->try_lock(options.name));
  if (!locked) {
    return Error{ErrorCode::kState, fmt::format("receiver {} is running", options.name),
                 "stop it first"};
  }
  ASSIGN_OR_RETURN(const auto row, apply::load_progress(*standby, options.name));
  {  // not after the rows: a directory that is another's is found before anything is lost
    const auto ours = apply::Checkpoint::open(options.data_dir);
    if (!ours.ok()) return ours.error();
  }
  RETURN_IF_ERROR(check_can_be_copied_anew(*standby, options));
  RETURN_IF_ERROR(forget_rows(*standby, options.name));
  RETURN_IF_ERROR(forget_files(options.data_dir));
  std::cout << fmt::format(
      "receiver {} has forgotten everything, {}; its tables are as they were: start it with "
      "--truncate, which empties them and copies them anew\n",
      options.name, row ? "applied up to " + to_string(row->applied_lsn) : "nothing was applied");
  return {};
}

}  // namespace bitacora::engine
