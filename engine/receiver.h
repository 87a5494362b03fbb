// The receiver process: what the intake spools is applied to the standby.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <vector>

#include "apply/applier.h"
#include "apply/checkpoint.h"
#include "apply/reconcile.h"
#include "apply/standby_session.h"
#include "apply/table_map.h"
#include "apply/target_registry.h"
#include "base/error.h"
#include "engine/intake.h"
#include "engine/options.h"
#include "engine/receiver_status.h"
#include "engine/sequence_keeper.h"
#include "engine/spool_keeper.h"
#include "engine/status_server.h"
#include "engine/table_sync.h"
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
  Result<void> serve(const std::stop_token& stop);
  Result<void> run_sessions(const std::stop_token& stop);
  Result<apply::StandbySession> connect_standby(std::stop_token stop);
  Result<void> run_session(std::stop_token stop);
  Result<void> run_session(apply::StandbySession& standby, const std::stop_token& stop);
  Result<void> apply_session(apply::StandbySession& standby, MasterLsn from,
                             const std::stop_token& stop);
  Result<apply::Resume> find_resume(apply::StandbySession& standby);
  Result<void> resume(apply::StandbySession& standby, const apply::Resume& found,
                      const std::stop_token& stop);
  Result<void> begin_first(apply::StandbySession& standby, apply::Resume& resume,
                           const std::stop_token& stop);
  Result<void> begin_on_standby(apply::StandbySession& standby, const pb::Welcome& welcome,
                                MasterLsn from, bool& may_have_row, const std::stop_token& stop);
  Result<void> begin_with_copy(apply::StandbySession& standby, const pb::Welcome& welcome,
                               const apply::Progress& progress, bool& may_have_row,
                               const std::stop_token& stop);
  Result<void> continue_from(MasterLsn from, const std::stop_token& stop);
  Result<void> check_against_master(MasterLsn applied, const std::stop_token& stop);
  Result<void> look_at_tables(apply::StandbySession& standby, const std::stop_token& stop);
  Result<void> preflight(apply::StandbySession& standby, const pb::Welcome& welcome);
  Result<void> apply_changes(apply::Applier& applier, const std::stop_token& stop);
  Result<void> replay(apply::StandbySession& standby, MasterLsn until, const std::stop_token& stop);
  Result<MasterLsn> apply_next(apply::Applier& applier, bool more_may_follow);
  pb::Caller caller() const;
  std::vector<apply::SourceTable> shipped();
  Result<std::string> control(const ControlRequest& request);
  bool goes_on_otherwise(const Error& error);
  Result<std::vector<apply::StandbySession>> connect_others();
  Result<apply::StandbySession> connect_another();
  Result<void> adopt(const std::vector<pb::Relation>& relations, const std::stop_token& stop);
  bool is_shipped_no_more(const pb::Relation& relation);
  Result<void> pass_over(const pb::Relation& relation, const Error& reason);
  bool is_past_one(MasterLsn applied);
  apply::ApplierOptions applier_options();

  const ReceiverOptions options_;
  ReceiverStatus status_;
  pb::Identity identity_;  // whose changes these are, once known
  // It was there before, in this life or another: from then on its absence is waited for.
  bool waits_for_standby_ = false;
  bool preflighted_ = false;
  std::optional<std::vector<apply::SourceTable>> preflighted_tables_;  // to be claimed
  std::map<std::string, MasterLsn> passed_over_;  // tables that come no more; until where
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
  apply::TargetClaims claims_;
  TableSync sync_;
  std::mutex sequences_mutex_;
  std::unique_ptr<SequenceKeeper> sequences_;  // guarded by sequences_mutex_
};

}  // namespace bitacora::engine
