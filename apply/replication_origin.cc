#include "apply/replication_origin.h"

#include <cstdlib>
#include <mutex>
#include <string_view>

#include <fmt/format.h>

#include "apply/standby_command.h"
#include "base/log.h"
#include "proto/own_names.h"
#include "proto/relation.h"

namespace bitacora::apply {
namespace {

constexpr int kOriginsMax = 1000;  // far more than a server has room for

// {0}: how the names begin, {1}: how many. What a handler undoes is the making; an
// origin once taken stays taken. 55006: another session has it; 23505: another one is making it.
// The answer leaves the block as a setting, since a block has none.
constexpr const char* kTake = R"(DO $take$
DECLARE
  candidate text;
BEGIN
  FOR i IN 1..{1} LOOP
    candidate := '{0}' || i;
    BEGIN
      IF NOT EXISTS (SELECT FROM pg_replication_origin WHERE roname = candidate) THEN
        PERFORM pg_replication_origin_create(candidate);
      END IF;
      PERFORM pg_replication_origin_session_setup(candidate);
      PERFORM set_config('bitacora.origin', '', false);
      RETURN;
    EXCEPTION WHEN object_in_use OR unique_violation THEN
      PERFORM set_config('bitacora.origin', SQLSTATE || SQLERRM, false);
    WHEN OTHERS THEN
      PERFORM set_config('bitacora.origin', SQLSTATE || SQLERRM, false);
      RETURN;
    END;
  END LOOP;
END $take$; SELECT current_setting('bitacora.origin'), session_user, current_setting('server_version_num'))";

std::string mend(std::string_view sqlstate, const std::string& role, int server_version) {
  constexpr std::string_view kInsufficientPrivilege = "42501";
  if (sqlstate == kInsufficientPrivilege) {
    return fmt::format(
        "run in the standby's database: GRANT EXECUTE ON FUNCTION "
        "pg_catalog.pg_replication_origin_create(text), "
        "pg_catalog.pg_replication_origin_session_setup(text) TO {}",
        proto::quoted_name(role));
  }
  return fmt::format(
      "SELECT * FROM pg_replication_origin_status shows who has them: remove unused ones with "
      "pg_replication_origin_drop(name), or raise {} on the standby and restart it",
      server_version >= 180000 ? "max_active_replication_origins" : "max_replication_slots");
}

}  // namespace

Result<std::optional<OriginRefusal>> mark_session(StandbySession& standby) {
  const ResultHandle result(
      PQexec(standby.connection(), fmt::format(kTake, proto::kOriginPrefix, kOriginsMax).c_str()));
  if (PQresultStatus(result.get()) != PGRES_TUPLES_OK) {
    Error error = standby_error(standby.connection(), result.get(), "cannot take an origin");
    if (PQstatus(standby.connection()) == CONNECTION_BAD) return error;
    return std::optional(OriginRefusal{error.message, "let the role run a DO block in plpgsql"});
  }
  const std::string answer = PQgetvalue(result.get(), 0, 0);
  constexpr std::size_t kSqlstateBytes = 5;
  if (answer.size() < kSqlstateBytes) return std::optional<OriginRefusal>{};
  return std::optional(OriginRefusal{
      answer.substr(kSqlstateBytes),
      mend(std::string_view(answer).substr(0, kSqlstateBytes), PQgetvalue(result.get(), 0, 1),
           std::atoi(PQgetvalue(result.get(), 0, 2)))});
}

Result<void> mark_what_is_applied(StandbySession& standby) {
  static std::mutex mutex;
  static std::string said;  // guarded by mutex
  ASSIGN_OR_RETURN(const auto refusal, mark_session(standby));
  if (!refusal) return {};
  const std::lock_guard lock(mutex);
  if (said == refusal->mend) return {};
  said = refusal->mend;
  spdlog::warn(
      "event=no_replication_origin reason=\"{}\" meaning=\"a sender on this server would ship what "
      "is applied here again\" hint=\"{}\"",
      refusal->reason, refusal->mend);
  return {};
}

const std::string& first_change_sql() {
  // Before a first copy there is no such table.
  static const std::string kSql = R"(DO $first$ BEGIN
  IF to_regclass('bitacora.progress') IS NOT NULL THEN
    INSERT INTO bitacora.progress (subscription, system_identifier, database, slot, stream,
      applied_lsn) VALUES ('first change of ' || pg_backend_pid(), 0, '', '', '', '0/0');
    DELETE FROM bitacora.progress WHERE subscription = 'first change of ' || pg_backend_pid();
  END IF;
END $first$)";
  return kSql;
}

}  // namespace bitacora::apply
