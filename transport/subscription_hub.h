// Between the readers of the slot and the connections of its receivers. One reader serves all that
// keep pace, the common one; a receiver that does not, or comes back behind the others, is read for
// alone until it has come near enough.
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
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/lsn.h"
#include "proto/batch.h"
#include "transport/shared_read.h"
#include "transport/subscription.h"

namespace bitacora::transport {

// What a receiver acknowledged. A receiver that is known but not connected keeps its positions here
// too.
struct ReceiverPositions {
  MasterLsn received;
  MasterLsn flushed;
  MasterLsn applied;

  friend bool operator==(const ReceiverPositions&, const ReceiverPositions&) = default;
};

struct ReceiverState {
  std::string receiver;
  bool connected = false;
  ReceiverPositions positions;
  std::size_t queued_bytes = 0;
  ReadBy read_by = ReadBy::kNobody;
  std::chrono::steady_clock::time_point absent_since = {};  // of one that is not connected
};

struct HubOptions {
  std::size_t queue_bytes_max;  // per receiver, serialized and not yet compressed
  // Somebody calls claim(), and reads for whom it answers.
  bool own_readers = false;
  // So long a receiver without room may hold up others that have some.
  std::chrono::milliseconds patience{500};
  std::uint64_t near_bytes = CompanyRules{}.near_bytes;
};

// Whether a receiver's own reader goes on.
enum class OwnRead {
  kGoesOn,
  kOver,  // the common reader goes on for it, or will
  kGone,  // the connection ended
};

// Thread-safe. Receivers are registered by their first connection and hold the slot from then on
// (rule I1). Nobody gets a gap: a receiver comes to the common reader with at least what that one
// has brought so far, which is checked at every batch; what it has already it is not sent again.
class SubscriptionHub {
 public:
  using Clock = std::chrono::steady_clock;

  // `on_change` is called, outside the lock, whenever the reader or the feedback has something new
  // to look at.
  SubscriptionHub(HubOptions options, std::function<void()> on_change);

  // A receiver known from an earlier life of the sender, not connected. Nothing when it is known.
  void restore_receiver(const std::string& receiver, MasterLsn flushed);
  // A registered one that is not connected tries to come back: it is not away.
  void on_attempt(const std::string& receiver);
  bool is_registered(const std::string& receiver) const;
  // What it acknowledged holds the slot no more. Nothing when it is unknown or connected.
  void forget(const std::string& receiver);

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

  // For the common reader, one thread. activate() begins a run: takes in who joined, leaves those
  // far behind the others to readers of their own, and answers where to begin; empty when there is
  // nobody to read for.
  std::optional<MasterLsn> activate();
  // Someone joined whom this run cannot serve, or nobody is left.
  bool wants_restart();
  // Gives the batch to everybody who takes part; false when one had no room until the deadline:
  // call again with the same batch. Who has had none for too long while others have some, reads
  // alone from there on.
  bool offer(const proto::SharedBatch& batch, Clock::time_point deadline);
  // The run ended, and its last batch inside of something unfinished: whoever holds the beginning
  // is disconnected, and gets all of it when it comes back.
  void abandon_transaction();
  // Until there is somebody to read for, at most until the deadline.
  void wait_for_receivers(Clock::time_point deadline);

  // For whoever reads for those that read alone. claim() answers one that nobody reads for yet;
  // empty at the deadline. Each has a thread of its own, which calls the others.
  std::shared_ptr<Subscription> claim(Clock::time_point deadline);
  MasterLsn position(const Subscription& subscription) const;
  // What follows the receiver's position. kClosed: the connection ended.
  Pushed put(Subscription& subscription, const proto::SharedBatch& batch,
             Clock::time_point deadline);
  // Lets the receiver back to the common reader if it can be now. Nothing is put after kOver.
  OwnRead come_back(const Subscription& subscription);
  // It cannot be read for: until `until` nobody reads alone.
  void decline(const Subscription& subscription, Clock::time_point until);

  // Ends the connection, or every one: the receivers come back and continue from what they hold.
  void disconnect(const Subscription& subscription);
  void disconnect_all();

  // The minimum over all registered receivers, connected or not; empty when there is none.
  std::optional<ReceiverPositions> slowest() const;
  std::vector<ReceiverState> receivers() const;

 private:
  struct Known {
    ReceiverPositions positions;
    std::shared_ptr<Subscription> subscription = nullptr;  // null while not connected
    bool is_new = false;  // registered since the start, nothing acknowledged yet
    Clock::time_point absent_since = Clock::now();  // while not connected

    void disconnect() {
      subscription.reset();
      absent_since = Clock::now();
    }
  };

  using SharedSubscription = std::shared_ptr<Subscription>;

  // The caller holds mutex_:
  std::vector<SharedSubscription> connected(ReadBy by) const;
  bool is_current(const Subscription& subscription) const;
  CompanyRules rules() const;
  bool has_room(Subscription& subscription) const;
  void begin_batch(const proto::SharedBatch& batch);
  void settle_joiners();
  void come_in(Subscription& subscription, const std::set<std::uint32_t>& open_streams);
  void let_read_alone(Subscription& subscription, std::string_view reason);
  void wait_for_common(Subscription& subscription);
  void find_way_back(Subscription& subscription);
  void begin_holding(Subscription& subscription) const;
  void hold(Subscription& subscription, const proto::SharedBatch& batch) const;
  void come_in_with_held(Subscription& subscription);
  void leave_to_another_reader(Subscription& subscription, const proto::EncodedBatch& batch);
  static void leave_out(Subscription& subscription, const proto::EncodedBatch& batch);
  void end_connection(const Subscription& subscription);
  bool others_wait_for(const Subscription& slow) const;
  void detach_the_slow();

  bool give(Subscription& subscription, const proto::SharedBatch& batch,
            Clock::time_point deadline);
  std::vector<SharedSubscription> without_batch() const;
  SharedSubscription finish_batch();

  const HubOptions options_;
  const std::function<void()> on_change_;
  mutable std::mutex mutex_;
  std::condition_variable joined_;    // somebody waits for the common reader
  std::condition_variable detached_;  // somebody is to be claimed
  // Guarded by mutex_:
  std::map<std::string, Known> known_;
  SharedRead common_;
  std::uint64_t batches_ = 0;              // offered so far
  proto::SharedBatch offered_ = nullptr;   // not yet taken by all
  Clock::time_point declined_until_ = {};  // nobody reads alone before
};

}  // namespace bitacora::transport
