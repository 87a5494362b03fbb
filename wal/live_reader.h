// Reads a slot through START_REPLICATION, near the head of the WAL, and hands batches on in order.
// Transactions too large for the master's memory come while they are in progress.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>

#include "base/error.h"
#include "base/lsn.h"
#include "wal/batch_builder.h"
#include "wal/batch_sink.h"
#include "wal/master_connection.h"
#include "wal/pace.h"
#include "wal/pgoutput_decoder.h"
#include "wal/replication_connection.h"
#include "wal/streamed_batches.h"
#include "wal/timeline_watch.h"
#include "wal/wake_up.h"

namespace bitacora::wal {

struct LiveReaderOptions {
  std::string conninfo;
  std::string slot;
  std::string publication;
  std::string application_name;
  TableTraffic* traffic = nullptr;  // outlives the reader
  OriginPolicy origins = OriginPolicy::kAuto;
  bool binary = true;  // values as their types' send functions give them, where there is one
  // A batch goes out at this size, or when `pace` says so.
  std::size_t batch_bytes_max = 256u << 10;
  std::chrono::milliseconds status_interval{
      1000};  // unprompted feedback, far below wal_sender_timeout
  std::chrono::milliseconds status_interval_busy{
      100};  // feedback on moved positions while bytes keep coming
  PaceOptions pace = {};
};

// One run is one replication connection. Not thread-safe.
class LiveReader {
 public:
  // `wake_up` ends a wait: signal it when the sink's status moved, wants_restart() changed, or on
  // stop.
  LiveReader(LiveReaderOptions options, BatchSink& sink, WakeUp& wake_up);

  // Streams from start_lsn until `stop`, or until the sink wants a restart. An error that heals
  // asks for another run; mid_transaction() then says whether the sink holds the beginning of an
  // unfinished transaction.
  Result<void> run(MasterLsn start_lsn, std::stop_token stop);

  // For the next run; see binary_can_be_sent().
  void ask_for_binary(bool binary) { options_.binary = binary; }

  bool mid_transaction() const { return delivered_open_transaction_; }

 private:
  using Clock = std::chrono::steady_clock;

  Result<void> stream(ReplicationConnection& connection, const std::stop_token& stop);
  Result<bool> drain(ReplicationConnection& connection, const std::stop_token& stop);
  Result<void> take_in(ReplicationConnection& connection, const StreamMessage& message,
                       const std::stop_token& stop);
  Result<void> take_streamed(ReplicationConnection& connection, const PgOutputMessage& message,
                             const std::stop_token& stop);
  Result<void> deliver(ReplicationConnection& connection, const std::stop_token& stop);
  Result<void> deliver(ReplicationConnection& connection, proto::EncodedBatch batch,
                       const std::stop_token& stop);
  bool wants_restart();
  Result<void> report(ReplicationConnection& connection, bool drained);
  Result<void> send_status(ReplicationConnection& connection, bool request_reply);

  LiveReaderOptions options_;
  MasterConnector connector_;
  BatchSink& sink_;
  WakeUp& wake_up_;
  TimelineWatch timeline_;
  PgOutputDecoder decoder_{PgOutputOptions{}};
  std::shared_ptr<RelationCache> relations_;  // the builders'
  BatchBuilder builder_;
  std::optional<StreamedBatches> streamed_;
  StandbyStatus reported_;
  Clock::time_point reported_at_;
  bool delivered_open_transaction_ = false;
  Pace pace_;
};

}  // namespace bitacora::wal
