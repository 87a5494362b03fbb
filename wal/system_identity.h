// Whom a connection leads to.
#pragma once

#include <libpq-fe.h>

#include <cstdint>
#include <string>

#include "base/error.h"
#include "base/lsn.h"
#include "wal/timeline_history.h"

namespace bitacora::wal {

// One run of one server; of a primary and its standbys the systems are the same.
struct ServerRun {
  std::string started;       // the time as text
  bool in_recovery = false;  // it is a standby; it may be promoted any time
};

struct SystemIdentity {
  ServerRun server;
  std::uint64_t system_identifier = 0;
  TimelineHistory history;  // of a standby: as far as it has replayed
  MasterLsn wal_lsn;
  std::string database;
};

// On connections in replication mode. Errors: kMaster. Source:
// https://www.postgresql.org/docs/current/protocol-replication.html
Result<ServerRun> identify_server(PGconn* connection);
// IDENTIFY_SYSTEM, and TIMELINE_HISTORY from timeline 2 on.
Result<SystemIdentity> identify_system(PGconn* connection);
Result<std::uint32_t> current_timeline(PGconn* connection);

}  // namespace bitacora::wal
