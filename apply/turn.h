// The order of groups that are in flight at the same time, kept by the standby: advisory locks
// named after a subscription and the group's number. Statements for the pipeline; $1 is the
// subscription.
#pragma once

#include <string>

namespace bitacora::apply {

// Holds turn $2 until it is ended or the connection is. Never waits: nobody asks before it is held.
inline std::string hold_turn_sql() {
  return "SELECT pg_advisory_lock(hashtextextended($1 || ' ' || $2, 0))";
}

// Returns when turn $2 has ended. What its holder committed before is visible to the next
// statement.
inline std::string await_turn_sql() {
  return "SELECT pg_advisory_xact_lock_shared(hashtextextended($1 || ' ' || $2, 0))";
}

// Ends turn $3, and holds turn $2 before.
inline std::string end_turn_sql() {
  return "SELECT pg_advisory_lock(hashtextextended($1 || ' ' || $2, 0)),"
         " pg_advisory_unlock(hashtextextended($1 || ' ' || $3, 0))";
}

}  // namespace bitacora::apply
