#include "wal/lock_patience.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/interruptible_sleep.h"
#include "base/log.h"
#include "proto/relation.h"

namespace bitacora::wal {
namespace {

constexpr const char* kLockNotAvailable = "55P03";
constexpr const char* kQueryCanceled = "57014";

// Of those that hold what a SHARE ROW EXCLUSIVE lock waits for, the one whose transaction is
// oldest. A prepared transaction has no pid; what another role does is not shown to everybody.
constexpr const char* kHolderQuery = R"(
SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), l.pid,
       pg_catalog.concat_ws(', ', coalesce(a.state, a.backend_type), 'since '
         || pg_catalog.to_char(a.xact_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') || ' UTC',
         'query: ' || pg_catalog.left(pg_catalog.btrim(pg_catalog.regexp_replace(
           nullif(a.query, ''), '\s+', ' ', 'g')), 80))
FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_class c ON c.oid = l.relation
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'relation' AND l.granted AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()
  AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
  AND l.mode NOT IN ('AccessShareLock', 'RowShareLock')
  AND pg_catalog.format('%I.%I', n.nspname, c.relname) IN ({})
ORDER BY a.xact_start NULLS FIRST, l.pid LIMIT 1)";

std::string holder(MasterSession& master, const std::vector<QualifiedTable>& tables) {
  std::string found;
  const auto asked = master.transact("cannot ask who holds a lock", [&](pqxx::work& tx) {
    std::vector<std::string> names;
    for (const auto& [schema, table] : tables)
      names.push_back(fmt::format("pg_catalog.format('%I.%I', {}::text, {}::text)",
                                  tx.quote(schema), tx.quote(table)));
    const auto rows = tx.exec(fmt::format(kHolderQuery, fmt::join(names, ", ")));
    if (rows.empty()) return;
    const auto who = rows[0][1].is_null()
                         ? std::string("a prepared transaction (see pg_prepared_xacts)")
                         : fmt::format("pid {} ({})", rows[0][1].c_str(), rows[0][2].c_str());
    found = fmt::format("table {} is locked by {}", rows[0][0].c_str(), who);
  });
  if (!asked.ok()) return "the master does not say by whom: " + one_line(asked.error());
  return found.empty() ? "whoever held it is gone by now" : found;
}

void limit_waiting(pqxx::work& tx, const LockPatience& patience) {
  tx.exec(fmt::format("SET LOCAL lock_timeout = {}", patience.lock_timeout.count()));
}

}  // namespace

Result<void> transact_patiently(MasterSession& master, std::string_view doing,
                                const std::vector<QualifiedTable>& tables,
                                const LockPatience& patience, const std::stop_token& stop,
                                const std::function<void(pqxx::work&)>& work) {
  for (int attempt = 1;; ++attempt) {
    bool locked_out = false;
    const auto done = master.transact(doing, [&](pqxx::work& tx) {
      try {
        limit_waiting(tx, patience);
        work(tx);
      } catch (const pqxx::sql_error& e) {
        locked_out = e.sqlstate() == kLockNotAvailable || e.sqlstate() == kQueryCanceled;
        throw;
      }
    });
    if (done.ok() || !locked_out) return done;
    const bool last = attempt >= patience.attempts || stop.stop_requested();
    const auto who = last || attempt == 1 ? holder(master, tables) : std::string();
    if (last) {
      return Error{ErrorCode::kMaster,
                   fmt::format("{}: no lock after {} attempts: {}", doing, attempt, who),
                   "nothing was changed; let that transaction end, then try again"};
    }
    if (attempt == 1)
      spdlog::info("event=waiting_for_lock reason=\"{}\" action=\"trying again\"", who);
    interruptible_sleep(patience.pause, stop);
  }
}

}  // namespace bitacora::wal
