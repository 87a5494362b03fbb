#include "apply/progress.h"

#include <charconv>

#include <fmt/format.h>

#include "apply/own_tables.h"

namespace bitacora::apply {
namespace {

Error unreadable(const std::string& subscription) {
  return {ErrorCode::kState,
          fmt::format("the row of {} in bitacora.progress is unreadable", subscription),
          "compare it with another row of the table; it is written by bitacora receiver only"};
}

// fillfactor: the row is rewritten by every group, and stays on its page.
constexpr const char* kDefinition =
    "(subscription text PRIMARY KEY, system_identifier numeric(20) NOT NULL, database text NOT"
    " NULL, slot text NOT NULL, stream text NOT NULL, applied_lsn pg_lsn NOT NULL, commit_time"
    " timestamptz, updated_at timestamptz NOT NULL DEFAULT clock_timestamp()) WITH (fillfactor ="
    " 20)";

}  // namespace

Result<std::optional<Progress>> load_progress(StandbySession& standby,
                                              const std::string& subscription) {
  ASSIGN_OR_RETURN(const bool exists, own_table_exists(standby, "progress"));
  if (!exists) return std::optional<Progress>{};
  ASSIGN_OR_RETURN(const auto rows,
                   standby.query("cannot read bitacora.progress",
                                 "SELECT system_identifier, database, slot, stream, applied_lsn "
                                 "FROM bitacora.progress WHERE subscription = $1",
                                 {subscription}));
  if (rows.empty()) return std::optional<Progress>{};
  const auto& row = rows[0];
  Progress progress;
  std::uint64_t system_identifier = 0;
  const auto parsed =
      std::from_chars(row[0]->data(), row[0]->data() + row[0]->size(), system_identifier);
  const auto lsn = parse_lsn(*row[4]);
  if (parsed.ec != std::errc{} || !lsn) return unreadable(subscription);
  progress.identity.set_system_identifier(system_identifier);
  progress.identity.set_database(*row[1]);
  progress.identity.set_slot(*row[2]);
  progress.identity.set_stream(*row[3]);
  progress.applied_lsn = MasterLsn{*lsn};
  return std::optional(std::move(progress));
}

Result<void> create_progress(StandbySession& standby, const std::string& subscription,
                             const Progress& progress) {
  RETURN_IF_ERROR(ensure_own_table(standby, "progress", kDefinition));
  const auto& identity = progress.identity;
  const auto created = standby.query(
      "cannot begin bitacora.progress",
      "INSERT INTO bitacora.progress (subscription, system_identifier, database, slot, stream, "
      "applied_lsn)"
      " VALUES ($1, $2::numeric, $3, $4, $5, $6::pg_lsn)",
      {subscription, std::to_string(identity.system_identifier()), identity.database(),
       identity.slot(), identity.stream(), to_string(progress.applied_lsn)});
  return created.ok() ? Result<void>{} : created.error();
}

Result<void> make_progress_durable(StandbySession& standby, const std::string& subscription) {
  // Local: whether the standby has standbys of its own does not concern us.
  const auto flushed = standby.query(
      "cannot make bitacora.progress durable",
      "WITH settled AS MATERIALIZED (SELECT set_config('synchronous_commit', 'local', true))"
      " UPDATE bitacora.progress SET updated_at = clock_timestamp() FROM settled"
      " WHERE subscription = $1",
      {subscription});
  return flushed.ok() ? Result<void>{} : flushed.error();
}

std::string advance_progress_sql() {
  return "WITH done AS (UPDATE bitacora.progress SET applied_lsn = $2, commit_time = coalesce($3, "
         "commit_time),"
         " updated_at = clock_timestamp() WHERE subscription = $1 AND applied_lsn = $4 RETURNING 1)"
         " SELECT substr('', 1, (-abs(count(*) - 1))::integer) FROM done";
}

}  // namespace bitacora::apply
