#include "apply/conflict_log.h"

#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/log.h"
#include "proto/relation.h"

namespace bitacora::apply {
namespace {

constexpr std::chrono::seconds kTellInterval{1};

constexpr const char* kWrite =
    "INSERT INTO bitacora.conflicts (subscription, commit_lsn, commit_time, schema_name,"
    " table_name, operation, conflict_type, policy, key, local_row, remote_row, detail) VALUES ($1,"
    " $2::pg_catalog.pg_lsn, pg_catalog.timestamptz 'epoch' + pg_catalog.make_interval(secs =>"
    " $3::pg_catalog.int8 / 1000000) + ($3::pg_catalog.int8 % 1000000) * '1 us'::interval, $4, $5,"
    " $6, $7, $8, $9::pg_catalog.jsonb, $10::pg_catalog.jsonb, $11::pg_catalog.jsonb, $12)";

// An object; an array of them where several rows were in the way.
std::optional<std::string> local_rows(const Conflict& conflict) {
  if (conflict.local_rows.empty()) return std::nullopt;
  if (conflict.local_rows.size() == 1) return conflict.local_rows.front();
  return fmt::format("[{}]", fmt::join(conflict.local_rows, ", "));
}

Result<void> create_conflict_table(StandbySession& standby) {
  const auto created = standby.query(
      "cannot create bitacora.conflicts",
      "CREATE TABLE IF NOT EXISTS bitacora.conflicts (id bigint GENERATED ALWAYS AS IDENTITY"
      " PRIMARY KEY, subscription text NOT NULL, at timestamptz NOT NULL DEFAULT"
      " clock_timestamp(), commit_lsn pg_lsn NOT NULL, commit_time timestamptz,"
      " schema_name text NOT NULL, table_name text NOT NULL, operation text NOT NULL,"
      " conflict_type text NOT NULL, policy text NOT NULL, key jsonb, local_row jsonb,"
      " remote_row jsonb, detail text)");
  if (created.ok()) return {};
  Error error = created.error();
  error.hint =
      "run on the standby as its owner: GRANT CREATE ON SCHEMA bitacora TO <role of --standby>";
  return error;
}

}  // namespace

// Not IF NOT EXISTS alone: that asks for the right to create it even when it is there.
Result<void> ensure_conflict_table(StandbySession& standby) {
  const char* kLook =
      "SELECT to_regclass('bitacora.conflicts'),"
      " has_table_privilege(to_regclass('bitacora.conflicts'), 'INSERT')";
  ASSIGN_OR_RETURN(const auto found, standby.query("cannot look for bitacora.conflicts", kLook));
  if (!found[0][0]) return create_conflict_table(standby);
  if (found[0][1] == "t") return {};
  return Error{ErrorCode::kStandby, "the role may not write bitacora.conflicts",
               "run on the standby: GRANT INSERT ON bitacora.conflicts TO <role of --standby>"};
}

Result<void> ConflictLog::write(const Conflict& conflict) {
  const auto commit_time = conflict.commit_time_usec == 0
                               ? std::optional<std::string>()
                               : std::to_string(conflict.commit_time_usec);
  return guarded_.ask(kWrite, {subscription_, to_string(conflict.commit_lsn), commit_time,
                               conflict.schema, conflict.table, operation_name(conflict.operation),
                               name_of(conflict.type), name_of(conflict.policy), conflict.key,
                               local_rows(conflict), conflict.remote_row, conflict.detail});
}

void ConflictLog::tell(const Conflict& conflict) {
  const auto table = proto::qualified_name(conflict.schema, conflict.table);
  const auto now = std::chrono::steady_clock::now();
  Told& told = told_[table];
  if (now - told.at < kTellInterval) {
    ++told.untold;
    return;
  }
  told.at = now;
  spdlog::warn("event=conflict table={} type={} policy={} key={} more={}", table,
               name_of(conflict.type), name_of(conflict.policy), conflict.key.value_or("?"),
               std::exchange(told.untold, 0));
}

}  // namespace bitacora::apply
