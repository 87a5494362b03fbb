#include "wal/lock_watch.h"

#include <string_view>

#include <fmt/format.h>

namespace bitacora::wal {
namespace {

// Of those in the way the one whose transaction is oldest. A prepared transaction has pid 0. What
// another role does is not shown to one without pg_read_all_stats.
constexpr const char* kBlockerQuery = R"(
SELECT l.locktype, pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname), b.pid,
       pg_catalog.concat_ws(', ',
         CASE WHEN a.backend_type <> 'client backend' THEN a.backend_type END,
         pg_catalog.concat_ws(' ', coalesce(a.state, 'active'), 'since '
           || pg_catalog.to_char(a.xact_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') || ' UTC'),
         'query: ' || CASE WHEN pg_catalog.length(q.text) > 80 THEN pg_catalog.left(q.text, 77) || '...' ELSE q.text END),
       pg_catalog.count(*) OVER () - 1
FROM pg_catalog.pg_locks l
CROSS JOIN pg_catalog.unnest(pg_catalog.pg_blocking_pids(l.pid)) AS b (pid)
LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = b.pid
CROSS JOIN LATERAL (
  SELECT pg_catalog.btrim(pg_catalog.regexp_replace(nullif(a.query, ''), '\s+', ' ', 'g'))) AS q (text)
LEFT JOIN pg_catalog.pg_class c ON l.locktype = 'relation' AND c.oid = l.relation
LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE NOT l.granted AND l.pid = {}
ORDER BY a.xact_start, b.pid LIMIT 1)";

std::string what_is_held(std::string_view lock, std::string_view table) {
  if (lock == "relation") return fmt::format("table {} is locked by", table);
  if (lock == "transactionid" || lock == "virtualxid")
    return "a transaction is still open, that of";
  return fmt::format("a lock ({}) is held by", lock);
}

}  // namespace

Result<std::string> LockWatch::ask(int backend) {
  if (!connection_) {
    MasterConnector connector(conninfo_, "bitacora copy", MasterConnector::Mode::kSql);
    ASSIGN_OR_RETURN(connection_, connector.connect());
  }
  ASSIGN_OR_RETURN(const auto rows, query(connection_.get(), fmt::format(kBlockerQuery, backend),
                                          "cannot ask who holds a lock"));
  if (PQntuples(rows.get()) == 0) return std::string();
  const auto field = [&](int column) {
    return std::string_view(PQgetvalue(rows.get(), 0, column));
  };
  auto found = what_is_held(field(0), field(1));
  if (field(2) == "0") {
    found += " a prepared transaction (see pg_prepared_xacts)";
  } else {
    found += fmt::format(" pid {} ({})", field(2), field(3));
  }
  if (field(4) != "0") found += fmt::format(" and {} more", field(4));
  return found;
}

void LockWatch::tell(int backend, const OnWaiting& waiting) {
  if (!waiting) return;
  const auto blocker = find(backend);
  if (!blocker.empty()) waiting(blocker);
}

std::string LockWatch::find(int backend) {
  auto found = ask(backend);
  if (found.ok()) return std::move(found).value();
  connection_.reset();
  return fmt::format("the master, which does not say why ({})", one_line(found.error()));
}

}  // namespace bitacora::wal
