// Tables on their way into the stream: what is copied, what has to be made up for afterwards, and
// from where on each is followed.
//
// A table's copy shows it as it was at its snapshot's position S. While it is copied its changes
// are left out; what happened to it after S is taken from the spool, which keeps it (hold_lsn). If
// the others have been applied beyond S by then, the table alone is brought to where they are,
// before all go on together.
#pragma once

#include <atomic>
#include <functional>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "apply/copied_tables.h"
#include "apply/standby_session.h"
#include "apply/table_map.h"
#include "apply/target_registry.h"
#include "base/error.h"
#include "base/lsn.h"
#include "engine/copy_preparation.h"
#include "engine/copy_progress.h"
#include "engine/options.h"
#include "proto/replication.pb.h"

namespace bitacora::engine {

// The receiver's thread owns it, but for request_copy(). A copy in the background has a thread of
// its own.
class TableSync {
 public:
  // `hold` is told from where on the spool must keep everything; invalid: no more than it does
  // anyway. Called by whatever thread.
  using Hold = std::function<void(MasterLsn from)>;
  TableSync(const ReceiverOptions& options, CopyProgress& progress, apply::TargetClaims& claims,
            Hold hold);
  ~TableSync();

  // Whose changes these are; before everything else.
  void follow(const pb::Caller& caller);

  // A first start: these tables, by this plan, before anything is applied. In the caller's
  // transaction.
  Result<void> begin_first(apply::StandbySession& standby, const pb::CopyPlan& plan,
                           MasterLsn from);

  // Where the stream begins for a receiver whose first copy is not over. kState: nobody knows.
  Result<MasterLsn> first_position(apply::StandbySession& standby);
  // Reads what the standby knows, and takes a resync that was requested in. `applied` is where the
  // progress row stands, or will when the `first` copy is over.
  Result<void> load(apply::StandbySession& standby, MasterLsn applied, bool first);
  // From where on the spool is needed; invalid: by no table.
  MasterLsn needed_from() const;
  // The spool has lost that: those tables are copied again.
  Result<void> begin_anew(apply::StandbySession& standby, MasterLsn applied);

  // The first copy, and what is left to do of one of later: now, and not in the background.
  Result<void> copy_first(apply::StandbySession& standby, const std::stop_token& stop);

  // Tables that the others are ahead of. Their changes from replay_from() on, up to `applied`, are
  // applied under the name of replay_subscription() before the others go on.
  apply::TableScope replay_scope(TablePatterns tables) const;
  bool needs_replay() const { return !replayed_.empty(); }
  MasterLsn replay_from() const;
  std::string replay_subscription() const { return options_.name + " resync"; }
  // All of it is applied.
  Result<void> end_replay(apply::StandbySession& standby);

  apply::TableScope scope(TablePatterns tables) const;

  // Copies what is missing, while the others are applied; ended before the session's lock is given
  // back, since it writes under it.
  void start_in_background();
  void end_background() { background_ = {}; }
  // A session is to begin anew: a resync was requested, or its copy is here.
  bool wants_restart() const { return wants_restart_; }

  // Thread-safe. Checks that the tables can be copied and asks the sender for a snapshot; the copy
  // begins with the receiver's next session. `applied`: as far as is applied now, or less. Errors:
  // the sender's, the standby's, kConfiguration where others' rows are (see TargetClaims), kState
  // while another copy goes on.
  Result<void> request_copy(const std::vector<pb::TableName>& tables, MasterLsn applied);
  // Some table's was.
  bool busy() const;
  // Until a session is to begin anew, or nothing is copied.
  void wait_while_busy(const std::stop_token& stop) const;
  // The table's copy was requested or goes on, or is being made up for.
  bool on_its_way(const pb::TableName& table) const;

 private:
  struct Request {
    pb::CopyPlan plan;
    MasterLsn hold;
  };

  Result<void> take_request(apply::StandbySession& standby);
  Result<void> release(apply::StandbySession& standby, MasterLsn applied);
  Result<void> copy_missing(apply::StandbySession& standby, const std::stop_token& stop);
  Result<PreparedCopy> prepare(const std::vector<pb::TableName>& tables, const pb::Caller& caller);
  void copy_in_background(const std::stop_token& stop);
  Result<void> copy_once(const std::stop_token& stop);

  const ReceiverOptions& options_;
  CopyProgress& progress_;
  apply::TargetClaims& claims_;
  const Hold hold_;

  // The receiver's thread only:
  std::vector<apply::CopiedTable> tables_;
  std::vector<apply::CopiedTable> replayed_;
  MasterLsn applied_;  // when they were loaded
  bool first_ = false;

  mutable std::mutex mutex_;
  // Guarded by mutex_:
  pb::Caller caller_;
  std::optional<Request> request_;
  std::optional<pb::CopyPlan> begun_;  // of the tables that are missing
  MasterLsn requested_hold_;
  std::vector<std::string> requested_;     // being asked for, or waiting for the next session
  std::vector<std::string> on_their_way_;  // of the tables that are loaded

  std::atomic<bool> wants_restart_ = false;
  std::jthread background_;
};

}  // namespace bitacora::engine
