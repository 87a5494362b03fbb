#include "base/blocking_session.h"

#include <fmt/format.h>

namespace bitacora {
namespace {

constexpr const char* kQuery = R"(
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
LEFT JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database()
LEFT JOIN pg_catalog.pg_class c ON l.locktype = 'relation' AND c.oid = l.relation AND l.database IN (0, d.oid)
LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE NOT l.granted AND {}
ORDER BY a.xact_start, b.pid LIMIT 1)";

std::string what_is_held(std::string_view lock, std::string_view table) {
  if (lock == "relation" && !table.empty()) return fmt::format("table {} is locked by", table);
  if (lock == "transactionid" || lock == "virtualxid")
    return "a transaction is still open, that of";
  return fmt::format("a lock ({}) is held by", lock);
}

}  // namespace

std::string blocking_query(std::string_view condition) { return fmt::format(kQuery, condition); }

std::string describe(const BlockingSession& found) {
  const auto& [lock, table, pid, what_it_does, others] = found;
  auto text = what_is_held(lock, table);
  if (pid == "0") {
    text += " a prepared transaction (see pg_prepared_xacts)";
  } else {
    text += fmt::format(" pid {} ({})", pid, what_it_does);
  }
  if (others != "0") text += fmt::format(" and {} more", others);
  return text;
}

}  // namespace bitacora
