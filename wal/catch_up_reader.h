// Reads a slot's backlog through a temporary copy of the slot, without the send and the receive
// that a walsender needs for each change, until the live reader can take over.
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/lsn.h"
#include "wal/backlog_fetcher.h"
#include "wal/batch_builder.h"
#include "wal/batch_sink.h"
#include "wal/master_connection.h"
#include "wal/pgoutput_decoder.h"
#include "wal/slot_copy.h"
#include "wal/timeline_watch.h"

namespace bitacora::wal {

// The master decodes a range whole before it sends it: what is in it lies in its memory up to
// work_mem, the rest in temporary files. Both are bounded by the WAL that one range may have to
// read, since what pgoutput makes of a change is rarely longer than its WAL.
struct CatchUpOptions {
  std::string conninfo;
  std::string slot;
  std::string publication;
  std::string application_name;
  TableTraffic* traffic = nullptr;  // outlives the reader
  OriginPolicy origins = OriginPolicy::kAuto;
  bool binary = true;  // as in LiveReaderOptions
  FetchOptions fetch = {};
  // The slot itself is moved after so much: for that the master reads its WAL once more. Empty:
  // somebody else moves it.
  std::optional<std::uint64_t> confirm_bytes = 16u << 20;
  std::size_t batch_bytes = 64u << 10;       // whole transactions go on at this size
  std::size_t batch_bytes_max = 256u << 10;  // and so does the beginning of one
};

// One run is one connection. Not thread-safe.
class CatchUpReader {
 public:
  CatchUpReader(CatchUpOptions options, BatchSink& sink);

  // Reads what is committed after start_lsn, in order. Errors: the sink's; kMaster, one that heals
  // when the connection was lost, or a standby went over to another timeline, else the master does
  // not let us (no free slot, no room for temporary files), and the live reader may do better.
  Result<CatchUpEnd> run(MasterLsn start_lsn, std::stop_token stop);

  // For the next run; see binary_can_be_sent().
  void ask_for_binary(bool binary) { options_.binary = binary; }

  // Whether the sink holds the beginning of an unfinished transaction after an error, or `stop`.
  bool mid_transaction() const { return delivered_open_transaction_; }

 private:
  using Clock = std::chrono::steady_clock;

  Result<CatchUpEnd> read(BacklogFetcher& fetcher, const std::stop_token& stop);
  Result<void> take_in(const FetchedMessages& messages, const std::stop_token& stop);
  Result<void> take_in(const CopyPosition& position, const std::stop_token& stop);
  void confirm(BacklogFetcher& fetcher, MasterLsn read);
  Result<void> deliver(const std::stop_token& stop);

  CatchUpOptions options_;
  MasterConnector connector_;
  BatchSink& sink_;
  TimelineWatch timeline_;
  PgOutputDecoder decoder_{PgOutputOptions{}};
  BatchBuilder builder_;
  bool delivered_open_transaction_ = false;
  MasterLsn asked_at_;  // how far we had read when the sink was asked for its status
};

}  // namespace bitacora::wal
