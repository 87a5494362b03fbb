// What apply takes next: from memory while it keeps up with the network, from the spool when it
// does not.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <memory>
#include <mutex>
#include <variant>

#include "base/error.h"
#include "base/lsn.h"
#include "proto/replication.pb.h"
#include "transport/spool.h"
#include "transport/spool_reader.h"

namespace bitacora::transport {

// Nothing arrived until the deadline, or wake() was called.
struct FeedQuiet {};

// The connection broke inside a transaction of which a part was handed out: it comes again, whole.
// Roll it back and seek().
struct FeedAbandoned {};

using FeedEvent = std::variant<SpoolBatch, FeedQuiet, FeedAbandoned>;

// Two threads: the network's puts, apply's seeks and takes. wake() may come from any.
class ChangeFeed {
 public:
  using Clock = std::chrono::steady_clock;

  // Holds at most `bytes_max` of batches, serialized; one larger batch passes alone.
  ChangeFeed(Spool& spool, std::size_t bytes_max) : spool_(spool), bytes_max_(bytes_max) {}

  // The spool has begun a new connection.
  void begin_connection();
  // A batch whose last frame is in the spool. Never waits: what has no room is read from there.
  void put(SpoolBatch batch, bool transaction_open);
  // Up to this place, in an open transaction, the spool has more, which is read from there.
  void put_spooled(const SpoolPlace& place);

  // From here on next() gives everything that the spool holds after `position`, and perhaps some
  // before it. kState: the spool begins later.
  Result<void> seek(MasterLsn position);
  Result<FeedEvent> next(Clock::time_point deadline);

  // The next batch is there already.
  bool more_waiting() const;
  // Reading from memory: apply keeps up.
  bool live() const;
  void wake();

 private:
  std::optional<FeedEvent> take_from_memory(std::unique_lock<std::mutex>& lock,
                                            Clock::time_point deadline);
  Result<FeedEvent> take_from_spool(Clock::time_point deadline);
  bool everything_consumed() const;

  Spool& spool_;
  const std::size_t bytes_max_;
  std::unique_ptr<SpoolReader> reader_;  // apply's thread only

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  // Guarded by mutex_:
  std::deque<SpoolBatch> queue_;
  std::size_t bytes_ = 0;
  SpoolPlace consumed_;            // behind the last batch that next() gave
  SpoolPlace put_;                 // behind the last one that was put, kept here or not
  bool live_ = false;              // what is put goes into the queue
  bool transaction_open_ = false;  // behind put_
  bool abandoned_ = false;
  bool woken_ = false;
};

}  // namespace bitacora::transport
