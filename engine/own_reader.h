// Reads the slot for one receiver alone: one that does not keep the others' pace, or came back
// behind them. From a temporary copy of the slot, as fast as this receiver takes it, until the
// common reader can go on for it. The slot itself is the common reader's to move (rule I1).
#pragma once

#include <functional>
#include <memory>
#include <stop_token>
#include <string>

#include "base/error.h"
#include "base/lsn.h"
#include "transport/subscription_hub.h"
#include "wal/batch_sink.h"
#include "wal/catch_up_reader.h"

namespace bitacora::engine {

// What the sender knows of its master. Called from the readers' threads.
struct MasterView {
  std::function<Result<void>(const wal::SystemIdentity&)> check_identity;
  std::function<Result<MasterLsn>()> confirmed;          // where the slot is
  std::function<Result<bool>()> binary_can_be_sent;      // now
  std::function<void(const Error& reason)> on_declined;  // the master gives no copy
};

// One thread owns it.
class OwnReader : private wal::BatchSink {
 public:
  // `subscription` was claimed at the hub.
  OwnReader(transport::SubscriptionHub& hub, std::shared_ptr<transport::Subscription> subscription,
            wal::CatchUpOptions options, const MasterView& master);

  // Until the receiver is back at the common reader, or gone, or `stop`. What heals is tried again
  // until it has; the common reader says what it is.
  void run(const std::stop_token& stop);

 private:
  // wal::BatchSink:
  bool offer(const proto::SharedBatch& batch,
             std::chrono::steady_clock::time_point deadline) override;
  Result<void> on_connected(const wal::SystemIdentity& system) override;
  Result<void> on_started() override;
  wal::StandbyStatus status() override { return {}; }  // the common reader tells the master
  bool wants_restart(bool streaming) override;
  void on_master_position(MasterLsn, std::int64_t) override {}

  void read(std::stop_token stop);
  Result<wal::CatchUpEnd> read_once(const std::stop_token& stop);
  void decline(const Error& reason);

  transport::SubscriptionHub& hub_;
  const std::shared_ptr<transport::Subscription> subscription_;
  const MasterView& master_;
  wal::CatchUpReader reader_;
  std::stop_source over_;
  MasterLsn reading_from_;
  bool done_ = false;  // nothing more is put
  int failures_ = 0;   // in a row, that do not heal
};

}  // namespace bitacora::engine
