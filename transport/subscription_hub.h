// Between the one reader of the slot and the connections of its receivers.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/bounded_queue.h"
#include "base/error.h"
#include "base/lsn.h"
#include "proto/batch.h"

namespace bitacora::transport {

// What a receiver acknowledged. A receiver that is known but not connected keeps its positions here
// too.
struct ReceiverPositions {
  MasterLsn received;
  MasterLsn flushed;
  MasterLsn applied;

  friend bool operator==(const ReceiverPositions&, const ReceiverPositions&) = default;
};

// One connected receiver. Thread-safe.
class Subscription {
 public:
  Subscription(std::string receiver, std::string instance, MasterLsn start_lsn,
               std::size_t queue_bytes_max)
      : receiver_(std::move(receiver)),
        instance_(std::move(instance)),
        start_lsn_(start_lsn),
        queue_(queue_bytes_max),
        position_(start_lsn) {}

  const std::string& receiver() const { return receiver_; }
  const std::string& instance() const { return instance_; }
  MasterLsn start_lsn() const { return start_lsn_; }
  BoundedQueue<proto::SharedBatch>& queue() { return queue_; }

 private:
  friend class SubscriptionHub;

  const std::string receiver_;
  const std::string instance_;
  const MasterLsn start_lsn_;
  BoundedQueue<proto::SharedBatch> queue_;
  // Guarded by the hub's mutex:
  MasterLsn position_;               // everything up to here is in the queue or sent
  bool active_ = false;              // takes part in the current run of the reader
  std::uint64_t batches_taken_ = 0;  // of the hub's count
};

struct ReceiverState {
  std::string receiver;
  bool connected = false;
  ReceiverPositions positions;
  std::size_t queued_bytes = 0;
};

// Thread-safe. Receivers are registered by their first connection and hold the slot from then on
// (rule I1).
class SubscriptionHub {
 public:
  using Clock = std::chrono::steady_clock;

  // `on_change` is called, outside the lock, whenever the reader or the feedback has something new
  // to look at.
  SubscriptionHub(std::size_t queue_bytes_max, std::function<void()> on_change);

  // A receiver known from an earlier life of the sender, not connected. Nothing when it is known.
  void restore_receiver(const std::string& receiver, MasterLsn flushed);
  bool is_registered(const std::string& receiver) const;

  // Registers the receiver, if it is new, with a connection from start_lsn on. A known one may come
  // with less than it acknowledged (its standby was restored from a backup, say): then it counts
  // for that only. The same instance replaces its own earlier connection, whose acknowledgements
  // count no more; another instance under the same name is refused (kConfiguration), and nothing
  // changed, while that one is connected.
  Result<std::shared_ptr<Subscription>> join(const std::string& receiver,
                                             const std::string& instance, MasterLsn start_lsn);
  void leave(const std::shared_ptr<Subscription>& subscription);
  void acknowledge(const Subscription& subscription, const ReceiverPositions& positions);
  // Forgets a new receiver that goes without having acknowledged anything; any other one stays
  // registered, and so does one that has connected again. True when it was forgotten.
  bool withdraw(const Subscription& subscription);

  // For the reader: takes the newly joined in and answers where to begin; empty when nobody is
  // connected.
  std::optional<MasterLsn> activate();
  // Someone joined since activate(), or nobody is left.
  bool wants_restart() const;
  // Gives the batch to every active subscription; false when one had no room until the deadline:
  // call again with the same batch.
  bool offer(const proto::SharedBatch& batch, Clock::time_point deadline);
  // Ends every connection: the receivers come back and continue from what they hold.
  void disconnect_all();

  // Until somebody joins, at most until the deadline.
  void wait_for_receivers(Clock::time_point deadline);

  // The minimum over all registered receivers, connected or not; empty when there is none.
  std::optional<ReceiverPositions> slowest() const;
  std::vector<ReceiverState> receivers() const;

 private:
  struct Known {
    ReceiverPositions positions;
    std::shared_ptr<Subscription> subscription = nullptr;  // null while not connected
    bool is_new = false;  // registered since the start, nothing acknowledged yet
  };

  std::vector<std::shared_ptr<Subscription>> without_batch(std::uint64_t batch) const;

  const std::size_t queue_bytes_max_;
  const std::function<void()> on_change_;
  mutable std::mutex mutex_;
  std::condition_variable joined_;
  // Guarded by mutex_:
  std::map<std::string, Known> known_;
  std::uint64_t batches_ = 0;  // offered so far
  const proto::EncodedBatch* offered_ =
      nullptr;  // the batch of the last offer(), to recognise a repetition
};

}  // namespace bitacora::transport
