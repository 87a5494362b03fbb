// Who is in the way of a session that waits for a lock, or for a transaction to end.
// Source: https://www.postgresql.org/docs/current/view-pg-locks.html
#pragma once

#include <array>
#include <string>
#include <string_view>

namespace bitacora {

// What blocking_query() answers, as text; what is NULL is empty.
using BlockingSession = std::array<std::string_view, 5>;

// SQL for one row or none. `condition` says which waits are meant: l is the row of pg_locks that is
// not granted, b.pid who blocks it (0: a prepared transaction), a that one's row of
// pg_stat_activity. Of several the one whose transaction is oldest. What another role does is not
// shown to one without pg_read_all_stats.
std::string blocking_query(std::string_view condition);

// For example "table public.t is locked by pid 123 (idle in transaction since 2026-11-27 09:00:00
// UTC, query: LOCK t)", in one line.
std::string describe(const BlockingSession& found);

}  // namespace bitacora
