// What a receiver knows of itself, for acknowledgements and status pages. Thread-safe.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>

#include "base/lsn.h"
#include "proto/replication.pb.h"

namespace bitacora::engine {

struct ReceiverPositions {
  std::uint64_t sequence = 0;  // last frame taken in
  MasterLsn received;
  MasterLsn flushed;
  MasterLsn applied;
};

class ReceiverStatus {
 public:
  explicit ReceiverStatus(std::string name) : name_(std::move(name)) {}

  void on_session(MasterLsn from);  // a session begins: sequence numbers start again
  void on_received(std::uint64_t sequence, MasterLsn received);
  void on_heartbeat(const pb::Heartbeat& heartbeat);
  struct Applied {
    MasterLsn applied;
    MasterLsn durable;
    std::uint64_t transactions = 0;  // since the session began
    std::uint64_t rows = 0;
    std::int64_t commit_time_usec = 0;
  };
  void on_applied(const Applied& applied);
  void on_session_end();
  void on_stopped();
  void on_error(const std::string& message);

  // The positions as soon as something more was applied or became durable than in `known`, or several frames
  // came in (the sender's window has to move), or at the deadline.
  ReceiverPositions wait_for_change(const ReceiverPositions& known,
                                    std::chrono::steady_clock::time_point deadline);
  void wake();  // ends a wait

  std::string document() const;  // JSON

 private:
  std::string state() const;
  double lag_seconds() const;

  const std::string name_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  // Guarded by mutex_:
  ReceiverPositions positions_;
  Applied applied_;
  std::uint64_t transactions_before_ = 0;  // of earlier sessions
  std::uint64_t rows_before_ = 0;
  MasterLsn wal_lsn_;
  std::int64_t master_clock_usec_ = 0;
  std::chrono::steady_clock::time_point master_clock_at_;
  bool connected_ = false;
  bool stopped_ = false;
  bool woken_ = false;
  std::string last_error_;
};

}  // namespace bitacora::engine
