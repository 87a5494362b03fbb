// What the slot keeps for whom: how far the master may be told that it is not needed (rule I1), and
// from where a receiver can still be let in.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "base/error.h"
#include "base/lsn.h"
#include "transport/subscription_hub.h"

namespace bitacora::transport {

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

 private:
  SubscriptionHub& hub_;
  std::mutex mutex_;
  MasterLsn told_;  // guarded by mutex_: the flushed position of the last report
};

}  // namespace bitacora::transport
