#include "engine/begin_anew.h"

#include <filesystem>
#include <iostream>

#include <fmt/format.h>

#include "apply/checkpoint.h"
#include "apply/own_tables.h"
#include "apply/progress.h"
#include "apply/standby_command.h"
#include "apply/standby_session.h"
#include "engine/connect_hint.h"

namespace bitacora::engine {
namespace {

namespace fs = std::filesystem;

// What is left to be made after a copy (bitacora.schema_steps) stays to be made.
Result<void> forget_rows(apply::StandbySession& standby, const std::string& name) {
  return apply::in_transaction(standby, "cannot forget what was applied", [&]() -> Result<void> {
    for (const std::string table : {"progress", "copied_parts", "copied_tables", "targets"}) {
      ASSIGN_OR_RETURN(const bool exists, apply::own_table_exists(standby, table));
      if (!exists) continue;
      const auto deleted = standby.query(
          "cannot forget what was applied",
          fmt::format("DELETE FROM bitacora.{} WHERE subscription = $1", table), {name});
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
  RETURN_IF_ERROR(forget_rows(*standby, options.name));
  RETURN_IF_ERROR(forget_files(options.data_dir));
  std::cout << fmt::format(
      "receiver {} has forgotten everything, {}; its tables are as they were: start it with "
      "--truncate, which empties them and copies them anew\n",
      options.name, row ? "applied up to " + to_string(row->applied_lsn) : "nothing was applied");
  return {};
}

}  // namespace bitacora::engine
