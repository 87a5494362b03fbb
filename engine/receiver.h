// The receiver process: takes frames from the sender and applies them to the standby.
#pragma once

#include <optional>
#include <stop_token>

#include "apply/applier.h"
#include "apply/checkpoint.h"
#include "apply/reconcile.h"
#include "apply/standby_session.h"
#include "apply/table_map.h"
#include "base/bounded_queue.h"
#include "base/error.h"
#include "engine/options.h"
#include "engine/receiver_status.h"
#include "transport/sender_connection.h"

namespace bitacora::engine {

// run() applies in the caller's thread; a session has two more, for the network's two directions.
class Receiver {
 public:
  explicit Receiver(ReceiverOptions options);

  // Until `stop`, or an error that does not heal. Whatever heals (a server that restarts, a network
  // that is gone) begins a new session from the standby's progress row.
  Result<void> run(std::stop_token stop);

 private:
  struct Incoming {
    apply::Applier::Batch changes;
  };
  using Queue = BoundedQueue<Incoming>;

  Result<apply::StandbySession> connect_standby(std::stop_token stop);
  Result<void> run_session(std::stop_token stop);
  Result<void> run_session(apply::StandbySession& standby, std::stop_token stop);
  Result<apply::Resume> find_resume(apply::StandbySession& standby);
  pb::Hello hello(const apply::Resume& resume) const;
  Result<void> preflight(apply::StandbySession& standby, apply::TableMap& tables,
                         const pb::Welcome& welcome);
  Result<void> stream(transport::SenderConnection& sender, apply::Applier& applier,
                      std::stop_token stop);
  Result<void> take_in(transport::SenderConnection& sender, Queue& queue);
  void acknowledge(transport::SenderConnection& sender, const std::stop_token& stop);
  Result<void> apply_from(Queue& queue, apply::Applier& applier, const std::stop_token& stop);
  Result<void> save_checkpoint(const apply::Applier& applier);

  const ReceiverOptions options_;
  ReceiverStatus status_;
  std::optional<apply::Checkpoint> checkpoint_;
  pb::Identity identity_;       // whose changes these are, once known
  bool was_connected_ = false;  // a session has streamed before: what fails now is waited for
  bool preflighted_ = false;
};

}  // namespace bitacora::engine
