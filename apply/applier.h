// Applies whole transactions in commit order, several of them as one of the standby's, with the
// progress row in it: which transactions make a group, and when it is written. GroupWriter writes
// it; with several connections Workers has several groups in flight.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <unordered_set>
#include <vector>

#include "apply/applier_options.h"
#include "apply/durability.h"
#include "apply/exchange.h"
#include "apply/group.h"
#include "apply/group_writer.h"
#include "apply/standby_session.h"
#include "apply/table_map.h"
#include "apply/workers.h"
#include "base/error.h"
#include "base/lsn.h"
#include "proto/replication.pb.h"

namespace bitacora::apply {

// What was applied in this session.
struct AppliedCounts {
  std::uint64_t transactions = 0;
  std::uint64_t rows = 0;
  std::uint64_t conflicts = 0;        // resolved by a policy
  std::int64_t commit_time_usec = 0;  // of the last applied transaction, the master's clock
};

// One thread owns it, and the sessions' connections with it. After any error the object is used up:
// the standby has rolled back what was not committed, and a new session continues from the progress
// row.
class Applier {
 public:
  using Batch = SharedChanges;

  // `from` is where the progress row stands. With `others` as many groups as there are sessions are
  // in flight.
  Applier(StandbySession& session, TableMap& tables, ApplierOptions options, MasterLsn from,
          std::span<StandbySession> others = {});

  Result<void> start();

  // Applies a batch. Whole transactions are committed before it returns, or in flight when there
  // are several sessions, unless `more_waiting` says that the group may go on with the next batch;
  // a transaction that is not complete yet stays open.
  Result<void> take(const Batch& batch, bool more_waiting);

  // For quiet moments: takes note of groups that have ended, writes an idle position that is due,
  // and asks what has become durable.
  Result<void> tick();
  // With several sessions: groups have not been noted as ended yet.
  bool in_flight() const { return workers_ && !workers_->all_finished(); }
  // Everything that was taken in is committed, but for a transaction whose end has not come.
  bool settled() const { return !group_open_ && !in_flight(); }
  // Something is left for tick() to do.
  bool needs_tick() const {
    return in_flight() || durability_.pending() || (idle_due() && !idle_patience_);
  }
  // Asks the standby to give up what it does for us. Thread-safe.
  void cancel();

  MasterLsn applied() const { return applied_; }  // visible on the standby
  MasterLsn durable() const { return durability_.durable(); }
  const AppliedCounts& counts() const { return counts_; }
  // After an error of take() or tick().
  const std::optional<PathRefusal>& refusal() const { return refusal_; }

 private:
  Result<void> take_in(const Batch& batch, bool more_waiting);
  Result<void> apply(const Batch& batch, const pb::Part& part);
  Result<void> idle(const pb::IdlePosition& idle);
  Result<void> describe(const pb::Relation& relation);
  Result<void> begin(const pb::Begin& begin);
  Result<void> end(const pb::Commit& commit);
  Result<void> apply_rows(const Batch& batch, const pb::Rows& block);
  Result<void> collect(const GroupRows& rows);
  Result<void> truncate(const pb::Truncate& truncate);
  bool group_is_full() const;
  bool passes_over() const { return skipping_ || rolled_back_; }
  bool takes(const MappedTable& table) const { return table.taken && begun_ >= table.begins; }

  Result<void> open_group();
  Result<void> write_directly();
  Result<void> commit_group();
  Result<void> hand_over();
  Result<void> rewrite_progress();  // a group without rows
  Result<void> ask_position();
  Result<void> ask_inside_transaction(std::chrono::steady_clock::time_point now);

  Result<void> finish_oldest();
  Result<void> finish_ended();
  Result<void> finish_all();
  void on_commit(const Group& group, const WalPosition& position);
  void note(const WalPosition& position);
  bool idle_due() const;
  Result<std::chrono::steady_clock::duration> idle_interval(
      std::chrono::steady_clock::time_point now);
  GroupWriter& writer() { return *writers_.front(); }

  TableMap& tables_;
  const ApplierOptions options_;
  Durability durability_;

  MasterLsn applied_;      // the progress row
  MasterLsn written_;      // end of the last group that is committed or in flight
  MasterLsn position_;     // end of the last transaction taken in
  bool skipping_ = false;  // inside a transaction that was applied before
  std::unordered_set<std::uint32_t> rolled_back_xids_;  // of its subtransactions
  bool rolled_back_ = false;                            // inside of one of these
  bool in_transaction_ = false;
  bool group_open_ = false;
  bool collecting_ = false;  // the open group, for a worker; else it is written as it comes
  bool one_trip_ = false;
  std::chrono::steady_clock::time_point group_opened_at_;
  Group group_;                        // the open one
  std::int64_t commit_time_usec_ = 0;  // of the transaction being taken in
  MasterLsn begun_;                    // the last transaction's, where its commit record begins
  bool exact_only_ = false;
  std::optional<PathRefusal> refusal_;
  AppliedCounts counts_;
  std::chrono::steady_clock::time_point progressed_at_;
  std::chrono::steady_clock::time_point asked_at_;
  std::chrono::steady_clock::time_point transacted_at_;  // the last group with a transaction
  std::chrono::steady_clock::time_point looked_at_;      // when idle_patience_ was asked for
  bool idle_patience_ = false;  // the standby is a master too: idle positions may wait

  std::vector<std::unique_ptr<GroupWriter>> writers_;
  std::optional<Workers> workers_;  // none for one writer
};

}  // namespace bitacora::apply
