// The receiver process: what the intake spools is applied to the standby.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <stop_token>
#include <vector>

#include "apply/applier.h"
#include "apply/checkpoint.h"
#include "apply/reconcile.h"
#include "apply/standby_session.h"
#include "apply/table_map.h"
#include "base/error.h"
#include "engine/intake.h"
#include "engine/options.h"
#include "engine/receiver_status.h"
#include "engine/spool_keeper.h"
#include "transport/change_feed.h"
#include "transport/spool.h"

namespace bitacora::engine {

// run() applies in the caller's thread; the intake and the spool's keeper have their own.
class Receiver {
 public:
  explicit Receiver(ReceiverOptions options);

  // Until `stop`, or an error that does not heal. While the standby is away the intake goes on;
  // while the sender is away what is spooled is applied. A new session begins from the standby's
  // progress row.
  Result<void> run(std::stop_token stop);

 private:
  Result<void> open();
  Result<void> run_sessions(const std::stop_token& stop);
  Result<apply::StandbySession> connect_standby(std::stop_token stop);
  Result<void> run_session(std::stop_token stop);
  Result<void> run_session(apply::StandbySession& standby, const std::stop_token& stop);
  Result<apply::Resume> find_resume(apply::StandbySession& standby);
  Result<void> begin_first(apply::StandbySession& standby, apply::Resume& resume,
                           const std::stop_token& stop);
  Result<void> continue_from(MasterLsn from, const std::stop_token& stop);
  Result<void> check_against_master(MasterLsn applied, const std::stop_token& stop);
  Result<void> look_at_tables(apply::StandbySession& standby, const std::stop_token& stop);
  Result<void> preflight(apply::StandbySession& standby, const pb::Welcome& welcome);
  void warn_of_idle_rules(const pb::Welcome& welcome) const;
  Result<void> apply_changes(apply::Applier& applier, const std::stop_token& stop);
  bool goes_on_otherwise(const Error& error);
  Result<std::vector<apply::StandbySession>> connect_others();
  apply::ApplierOptions applier_options();

  const ReceiverOptions options_;
  ReceiverStatus status_;
  pb::Identity identity_;   // whose changes these are, once known
  bool has_state_ = false;  // something was applied before: what fails now is waited for
  bool preflighted_ = false;
  // What a path could not do: the session's refusal, and what follows from the earlier ones.
  std::optional<apply::PathRefusal> refusal_;
  MasterLsn exact_through_;
  std::map<std::string, std::chrono::steady_clock::time_point> exact_tables_;  // until when
  std::map<std::string, apply::CarefulUntil> careful_tables_;

  std::optional<apply::Checkpoint> checkpoint_;
  std::optional<apply::CheckpointState> found_;  // the checkpoint at the start
  std::unique_ptr<transport::Spool> spool_;
  std::optional<transport::ChangeFeed> feed_;
  std::optional<SpoolKeeper> keeper_;
  std::optional<Intake> intake_;
};

}  // namespace bitacora::engine
