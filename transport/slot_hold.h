// What the slot keeps for whom: how far the master may be told that it is not needed (rule I1), and
// from where a receiver can still be let in.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/lsn.h"
#include "transport/subscription_hub.h"

namespace bitacora::transport {

// kState, naming those that are.
Error not_registered(const std::string& receiver, const std::vector<std::string>& known);

// Thread-safe: between what the reader reports and who joins meanwhile.
class SlotHold {
 public:
  explicit SlotHold(SubscriptionHub& hub) : hub_(hub) {}

  // What the master may be told now; empty while nobody is registered. Counts as told.
  std::optional<ReceiverPositions> report();

  using Joined = Result<std::shared_ptr<Subscription>>;

  // Lets in a receiver without a position of its own. It begins after what the slot, `confirmed` up
  // to here, or the master by our word, has dropped. Errors: as SubscriptionHub::join.
  Joined join_new(const std::string& receiver, const std::string& instance, MasterLsn confirmed);

  // Lets in a receiver that continues at `resume`, perhaps behind what it acknowledged before.
  // kState, naming the gap: the slot does not have everything after it. Errors also as above.
  Joined join_at(const std::string& receiver, const std::string& instance, MasterLsn resume,
                 MasterLsn confirmed);

  // Makes durable that these hold the slot no more. Its error leaves them as they were.
  using Note = std::function<Result<void>(const std::vector<ReceiverState>&)>;

  // Ends the hold of those that have been away for so long and hold what is before `keep_from`;
  // answers them. Who is connected is never among them, however far behind, nor is who connects
  // meanwhile: it is let in before or after. Errors: `note`'s.
  Result<std::vector<ReceiverState>> drop_absent(MasterLsn keep_from,
                                                 std::chrono::steady_clock::duration absence,
                                                 const Note& note);

  // Ends the hold of this one. kState: it is connected, or not registered. Errors also `note`'s.
  Result<void> forget(const std::string& receiver, const Note& note);

  // Nobody is registered: the slot may drop what is before `position`, and who comes now begins
  // after it. False when somebody is.
  bool release(MasterLsn position);

 private:
  Result<void> end_hold(const std::vector<ReceiverState>& whose, const Note& note);

  SubscriptionHub& hub_;
  std::mutex mutex_;
  MasterLsn told_;  // guarded by mutex_: the flushed position of the last report
};

}  // namespace bitacora::transport
