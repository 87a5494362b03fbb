// Which receivers hold the slot, durably: who registers, who is dropped because it was away for too
// long, who is forgotten.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>

#include "base/error.h"
#include "base/lsn.h"
#include "engine/sender_state.h"
#include "transport/peer.h"
#include "transport/slot_hold.h"
#include "transport/subscription.h"
#include "transport/subscription_hub.h"

namespace bitacora::engine {

// "the slot is held from 0/16B3748 on, by reporting", of what each receiver has.
std::string held_from(const std::map<std::string, MasterLsn>& receivers);

// Takes the receiver out of what is remembered, also one that was dropped. kState: unknown.
Result<void> forget_in(SenderState& state, const std::string& receiver);

// Thread-safe. Whatever the slot is told rests on what the file says already.
class ReceiverRegistry {
 public:
  // Hub and hold outlive it. The file has a state; its receivers are known to the hub from here on.
  // `keep_bytes_max`: so much WAL the master keeps for one that is away; 0: any amount.
  ReceiverRegistry(transport::SubscriptionHub& hub, transport::SlotHold& hold, SenderStateFile file,
                   std::uint64_t keep_bytes_max);

  MasterLsn slot_from() const;

  // A name belongs to the certificate that it was registered with, by any of the names in it, until
  // it is forgotten: else whoever is let in could move another's place in the log. Without TLS
  // everybody is on this host. kConfiguration: it is another's.
  Result<void> check_owner(const std::string& receiver, const transport::Peer& peer) const;

  // What a Welcome promises must outlive us. Whoever was dropped is so no longer.
  // Errors also as check_owner().
  Result<void> note_registered(const transport::Subscription& subscription,
                               const transport::Peer& peer);
  // One that could not be noted, unless it was before: nothing holds the slot for it.
  void forget_unnoted(const std::string& receiver);

  // Who withdrew is in the file until the positions are noted.
  bool somebody_withdrew() const;
  void note_positions();

  // Drops those beyond the limit, and says so. `wal_end`: the master's.
  void drop_absent(MasterLsn wal_end);
  std::map<std::string, DroppedReceiver> dropped() const;
  // Why a receiver that comes back finds a gap.
  Error explained(Error gap, const std::string& receiver) const;

  // Answers what was done, for a person. kState: connected, unknown.
  Result<std::string> forget(const std::string& receiver);

  // Nobody holds the slot since the last one was dropped, and it keeps more than the limit: up to
  // here it may be moved. Else where those that are registered hold it; 0: nowhere.
  MasterLsn releasable(MasterLsn wal_end, std::uint64_t retained_bytes);

 private:
  std::map<std::string, MasterLsn> positions() const;
  Result<void> save_dropped(const std::vector<transport::ReceiverState>& receivers,
                            MasterLsn wal_end);

  transport::SubscriptionHub& hub_;
  transport::SlotHold& hold_;
  const std::uint64_t keep_bytes_max_;
  mutable std::mutex mutex_;  // taken before the hold's and the hub's
  SenderStateFile file_;      // guarded by mutex_
};

}  // namespace bitacora::engine
