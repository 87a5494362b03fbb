// Looks after the spool while it grows: makes it durable as fast as the disk can, and every second
// removes what is not needed and writes the checkpoint.
#pragma once

#include <condition_variable>
#include <mutex>
#include <optional>
#include <stop_token>
#include <thread>

#include "apply/checkpoint.h"
#include "engine/receiver_status.h"
#include "transport/spool.h"

namespace bitacora::engine {

// on_appended() and follow() may be called by any thread. The checkpoint is the keeper's alone.
class SpoolKeeper {
 public:
  SpoolKeeper(transport::Spool& spool, apply::Checkpoint& checkpoint, ReceiverStatus& status);
  // Once more makes everything durable and writes the checkpoint.
  ~SpoolKeeper();
  SpoolKeeper(const SpoolKeeper&) = delete;
  SpoolKeeper& operator=(const SpoolKeeper&) = delete;

  void on_appended();
  // Whose changes the standby has; no checkpoint is written before.
  void follow(const pb::Identity& identity);
  // Nothing from here on is removed, although it is applied: a table that is being copied will need
  // it. An invalid position ends that.
  void hold(MasterLsn from);

 private:
  void run(const std::stop_token& stop);
  void sync();
  void tidy();
  MasterLsn needed_from(MasterLsn durable);
  Result<void> save_checkpoint(MasterLsn durable);

  transport::Spool& spool_;
  apply::Checkpoint& checkpoint_;
  ReceiverStatus& status_;
  bool failing_ = false;  // told already; the keeper's thread only
  std::optional<apply::CheckpointState> saved_;

  std::mutex mutex_;
  std::condition_variable appended_;
  // Guarded by mutex_:
  bool dirty_ = false;
  std::optional<pb::Identity> identity_;
  MasterLsn hold_;

  std::jthread thread_;
};

}  // namespace bitacora::engine
