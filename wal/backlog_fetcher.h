// Takes range after range from a slot's copy, ahead of who works on them: meanwhile the master
// decodes the next one.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <variant>

#include "base/bounded_queue.h"
#include "base/error.h"
#include "base/lsn.h"
#include "wal/plugin_options.h"
#include "wal/slot_copy.h"

namespace bitacora::wal {

struct FetchOptions {
  std::uint64_t near_bytes = 1u << 20;   // so little WAL is left to the live reader
  std::uint64_t range_bytes = 8u << 20;  // of WAL: how much is decoded before any of it comes
  // Each range reads the WAL anew from the oldest transaction that may still matter (restart_lsn):
  // a range is twice as long as what is read for nothing (six times where the one before brought
  // nothing, inside a large transaction most likely), until the two come to this.
  std::uint64_t read_bytes_max = 1u << 30;
  // A transaction in progress is the live reader's, once so much of the WAL may be its: that one
  // reads it once, and has it streamed.
  std::uint64_t in_progress_bytes = 32u << 20;
  std::size_t ahead_bytes = 32u << 20;  // of messages that wait here
  // The next range is begun when less of them waits. Where they are taken slowly, so that the
  // master's query, and with it a snapshot, does not last as long as that takes.
  std::size_t begin_below_bytes = std::numeric_limits<std::size_t>::max();
};

enum class CatchUpEnd {
  kNear,        // the rest is for the live reader, or there is none
  kTooLarge,    // and so is what needs more WAL than read_bytes_max
  kInProgress,  // and a large transaction whose end has not been written yet
  kRestart,     // the sink wants it, or `stop`
};

// pgoutput messages, each behind its length (4 bytes); a range is over, and everything up to its
// position has been given; there is no other range.
struct FetchedMessages {
  std::string bytes;
};
using Fetched = std::variant<FetchedMessages, CopyPosition, CatchUpEnd>;

// A thread of its own owns the copy; one other thread calls. The destructor has the master give up
// what it decodes.
class BacklogFetcher {
 public:
  // From `start` on, which is not before what the copy has.
  BacklogFetcher(SlotCopy& copy, FetchOptions options, PluginOptions plugin_options,
                 MasterLsn start);
  BacklogFetcher(const BacklogFetcher&) = delete;
  BacklogFetcher& operator=(const BacklogFetcher&) = delete;
  ~BacklogFetcher();

  // Empty at the deadline. After an error, which comes in its place, or an end there is no more.
  Result<std::optional<Fetched>> next(std::chrono::steady_clock::time_point deadline);

  // The slot is moved up to here before the next range (rule I1).
  void allow(MasterLsn flushed) { flushed_ = flushed.value; }

 private:
  using Clock = std::chrono::steady_clock;

  Result<CatchUpEnd> fetch(MasterLsn start, const std::stop_token& stop);
  void wait_for_room(const std::stop_token& stop) const;
  Result<bool> fetch_range(MasterLsn upto, const std::stop_token& stop);
  void put(Result<Fetched> fetched, std::size_t bytes, const std::stop_token& stop);
  Result<void> confirm();

  SlotCopy& copy_;
  const FetchOptions options_;
  const PluginOptions plugin_options_;
  std::atomic<std::uint64_t> flushed_{0};
  MasterLsn confirmed_;  // the thread's
  BoundedQueue<Result<Fetched>> fetched_;
  std::jthread thread_;
};

}  // namespace bitacora::wal
