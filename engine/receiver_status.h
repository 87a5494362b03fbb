// What a receiver knows of itself, for acknowledgements and status pages. Thread-safe.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>

#include "base/lsn.h"
#include "engine/copy_progress.h"
#include "proto/replication.pb.h"
#include "transport/receiver_session.h"

namespace bitacora::engine {

class ReceiverStatus {
 public:
  explicit ReceiverStatus(std::string name) : name_(std::move(name)) {}

  void on_connected(MasterLsn from);  // to the sender: frames are counted anew
  void on_disconnected();
  void on_received(std::uint64_t frames, MasterLsn received);
  void on_flushed(MasterLsn flushed, std::uint64_t spool_bytes);  // the spool
  void on_heartbeat(const pb::Heartbeat& heartbeat);
  void on_session(MasterLsn from);  // with the standby
  struct Applied {
    MasterLsn applied;
    MasterLsn durable;               // what the standby would still have after a crash
    std::uint64_t transactions = 0;  // since the session began
    std::uint64_t rows = 0;
    std::uint64_t conflicts = 0;  // resolved by a policy
    std::int64_t commit_time_usec = 0;
  };
  void on_applied(const Applied& applied);
  bool on_session_end();  // whether one had begun
  void on_stopped();
  void on_sequences(std::size_t count);  // are where the master's are
  CopyProgress& copy() { return copy_; }
  MasterLsn applied() const;
  std::optional<MasterLsn> behind_at() const;   // what is applied, while there is more to do
  void on_waiting(const std::string& blocker);  // somebody on the standby; empty: nobody
  void on_error(const std::string& message);
  MasterLsn durable() const;
  void set_durable(MasterLsn durable);  // also back, when the standby was restored
  MasterLsn wal_lsn() const;            // the end of the master's WAL as last heard; 0: not yet

  // The progress as soon as it is worth acknowledging after `known`, or at the deadline.
  transport::ReceiverProgress wait_for_change(const transport::ReceiverProgress& known,
                                              std::chrono::steady_clock::time_point deadline);
  void wake();  // ends a wait

  std::string document() const;  // JSON

 private:
  std::string state() const;
  double lag_seconds() const;

  const std::string name_;
  CopyProgress copy_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  // Guarded by mutex_:
  transport::ReceiverProgress positions_;
  Applied applied_;
  std::uint64_t transactions_before_ = 0;  // of earlier sessions
  std::uint64_t rows_before_ = 0;
  std::uint64_t conflicts_before_ = 0;
  MasterLsn wal_lsn_;
  std::int64_t master_clock_usec_ = 0;
  std::chrono::steady_clock::time_point master_clock_at_;
  std::uint64_t spool_bytes_ = 0;
  bool connected_ = false;
  bool in_session_ = false;
  bool stopped_ = false;
  bool woken_ = false;
  std::string last_error_;
  std::string waiting_for_;
  std::optional<std::size_t> sequences_;
  std::chrono::steady_clock::time_point sequences_at_;
};

}  // namespace bitacora::engine
