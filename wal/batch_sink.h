// Where the readers of a slot put what they read, and where they learn what the master may be told.
#pragma once

#include <chrono>
#include <cstdint>

#include "base/error.h"
#include "base/lsn.h"
#include "proto/batch.h"
#include "wal/replication_connection.h"
#include "wal/system_identity.h"

namespace bitacora::wal {

// Called from the reader's thread only.
class BatchSink {
 public:
  virtual ~BatchSink() = default;

  // Takes the batch over, or answers false when there was no room until the deadline: it is offered
  // again.
  virtual bool offer(const proto::SharedBatch& batch,
                     std::chrono::steady_clock::time_point deadline) = 0;

  // Whom this run's connection leads to. An error ends the run.
  virtual Result<void> on_connected(const SystemIdentity& system) = 0;

  // The slot, or a copy of it, is ours and reading has begun, nothing was offered yet. An error
  // ends the run.
  virtual Result<void> on_started() = 0;

  // What the master may be told now.
  virtual StandbyStatus status() = 0;

  // True when this run has to end, for the next one to begin from another position or in another
  // way; asked at transaction boundaries only. `streaming`: a part of a transaction in progress was
  // offered, which would come anew.
  virtual bool wants_restart(bool streaming) = 0;

  // What the reader knows of the master's WAL and clock, for status pages.
  virtual void on_master_position(MasterLsn wal_end, std::int64_t master_clock_usec) = 0;
};

}  // namespace bitacora::wal
