// Whom a connection leads to.
#pragma once

#include <libpq-fe.h>

#include <cstdint>
#include <string>

#include "base/error.h"
#include "base/lsn.h"
#include "wal/timeline_history.h"

namespace bitacora::wal {

struct SystemIdentity {
  std::uint64_t system_identifier = 0;
  TimelineHistory history;
  MasterLsn wal_lsn;
  std::string database;
};

// IDENTIFY_SYSTEM, and TIMELINE_HISTORY from timeline 2 on, on a connection in replication mode.
// kMaster. Source: https://www.postgresql.org/docs/current/protocol-replication.html
Result<SystemIdentity> identify_system(PGconn* connection);

}  // namespace bitacora::wal
