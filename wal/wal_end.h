// Where the master's WAL ends for a reader.
#pragma once

namespace bitacora::wal {

// SQL for that: of a standby it is what has been replayed, since only that is decoded.
inline constexpr const char* kWalEnd =
    "CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()"
    " ELSE pg_catalog.pg_current_wal_lsn() END";

}  // namespace bitacora::wal
