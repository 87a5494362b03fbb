// Queries that may have to wait for a lock, and then say whose.
#pragma once

#include <stop_token>
#include <string>
#include <vector>

#include "base/error.h"
#include "wal/lock_watch.h"
#include "wal/master_connection.h"

namespace bitacora::wal {

// One thread owns it and the connection, which has to outlive it.
class PatientQuery {
 public:
  // `waiting` hears once a second who is in the way, as LockWatch says it.
  PatientQuery(PGconn* connection, const std::string& conninfo, OnWaiting waiting,
               std::stop_token stop = {});

  // The rows of one statement, as text. kMaster, also at `stop`.
  Result<MasterResult> rows(const std::string& sql, const std::vector<std::string>& values,
                            const std::string& doing);
  PGconn* connection() { return connection_; }

 private:
  PGconn* connection_;
  LockWatch watch_;
  const OnWaiting waiting_;
  const std::stop_token stop_;
};

}  // namespace bitacora::wal
