// Reads a slot's backlog through a temporary copy of the slot, several times faster than a
// walsender gives it, until the live reader can take over.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <stop_token>
#include <string>

#include "base/error.h"
#include "base/lsn.h"
#include "wal/batch_builder.h"
#include "wal/batch_sink.h"
#include "wal/pgoutput_decoder.h"
#include "wal/slot_copy.h"
#include "wal/wake_up.h"

namespace bitacora::wal {

// The master decodes a range whole before it sends it: what is in it lies in its memory up to
// work_mem, the rest in temporary files. Both are bounded by the WAL that one range may have to
// read, since what pgoutput makes of a change is rarely longer than its WAL.
struct CatchUpOptions {
  std::string conninfo;
  std::string slot;
  std::string publication;
  std::string application_name;
  bool binary = true;                     // as in LiveReaderOptions
  std::uint64_t near_bytes = 4u << 20;    // so little WAL is left to the live reader
  std::uint64_t range_bytes = 32u << 20;  // of WAL: how much is decoded before any of it comes
  // Each range reads the WAL anew from the oldest transaction that may still matter (restart_lsn):
  // a range is at least as long as what is read for nothing, until the two come to this.
  std::uint64_t read_bytes_max = 1u << 30;
  std::uint64_t confirm_bytes = 64u << 20;   // the slot itself is moved after so much
  std::size_t batch_bytes = 64u << 10;       // whole transactions go on at this size
  std::size_t batch_bytes_max = 256u << 10;  // and so does the beginning of one
};

enum class CatchUpEnd {
  kNear,      // the rest is for the live reader
  kTooLarge,  // and so is what needs more WAL than read_bytes_max
  kRestart,   // the sink wants it, or `stop`
};

// One run is one connection. Not thread-safe.
class CatchUpReader {
 public:
  // `wake_up` ends a wait, as for the live reader.
  CatchUpReader(CatchUpOptions options, BatchSink& sink, WakeUp& wake_up);

  // Reads what is committed after start_lsn, in order. Errors: the sink's; kMaster, one that heals
  // when the connection was lost, else the master does not let us (no free slot, no room for
  // temporary files), and the live reader may do better.
  Result<CatchUpEnd> run(MasterLsn start_lsn, std::stop_token stop);

  // For the next run; see binary_can_be_sent().
  void ask_for_binary(bool binary) { options_.binary = binary; }

  // Whether the sink holds the beginning of an unfinished transaction after an error, or `stop`.
  bool mid_transaction() const { return delivered_open_transaction_; }

 private:
  using Clock = std::chrono::steady_clock;

  Result<CatchUpEnd> read(SlotCopy& copy, MasterLsn start_lsn, const std::stop_token& stop);
  Result<void> read_range(SlotCopy& copy, MasterLsn upto, const std::stop_token& stop);
  Result<void> take_in(std::string_view message, const std::stop_token& stop);
  void deliver(const std::stop_token& stop);
  Result<void> confirm(SlotCopy& copy);

  CatchUpOptions options_;
  MasterConnector connector_;
  BatchSink& sink_;
  WakeUp& wake_up_;
  PluginOptions plugin_options_;
  PgOutputDecoder decoder_{PgOutputOptions{}};
  BatchBuilder builder_;
  MasterLsn confirmed_;
  bool delivered_open_transaction_ = false;
};

}  // namespace bitacora::wal
