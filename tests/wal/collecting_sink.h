// A BatchSink that keeps what it is given and lets a test decide what it answers.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <limits>
#include <mutex>
#include <vector>

#include "proto/replication.pb.h"
#include "wal/live_reader.h"

namespace bitacora::wal {

// What a test and the reader's thread share; thread-safe.
class CollectingSink : public BatchSink {
 public:
  bool offer(const proto::SharedBatch& batch,
             std::chrono::steady_clock::time_point deadline) override;
  StandbyStatus status() override;
  Result<void> on_connected(const SystemIdentity&) override { return {}; }
  Result<void> on_started() override { return {}; }
  bool wants_restart(bool streaming) override;
  void on_master_position(MasterLsn wal_end, std::int64_t master_clock_usec) override;

  void accept_at_most(std::size_t batches);  // with changes; refuses those after
  void refuse_commits();
  void confirm(MasterLsn lsn);  // as received, durable and applied
  void want_restart();

  // Parts of all accepted batches, in order. Rows of a transaction that came in several blocks stay
  // several parts.
  std::vector<pb::Part> parts() const;
  std::vector<proto::SharedBatch> batches() const;
  std::size_t commits() const;
  std::size_t refusals() const;
  std::size_t times_asked() const;    // for its status
  MasterLsn end_lsn() const;          // of the newest batch that has one
  MasterLsn newest_position() const;  // of on_master_position()
  std::int64_t master_clock_usec() const;

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  // Guarded by mutex_:
  std::vector<proto::SharedBatch> batches_;
  std::vector<pb::Part> parts_;
  StandbyStatus status_;
  std::size_t accepted_ = 0;
  std::size_t accepts_ = std::numeric_limits<std::size_t>::max();
  bool refuses_commits_ = false;
  bool wants_restart_ = false;
  std::size_t refusals_ = 0;
  std::size_t times_asked_ = 0;
  MasterLsn newest_position_;
  std::int64_t master_clock_usec_ = 0;
};

}  // namespace bitacora::wal
