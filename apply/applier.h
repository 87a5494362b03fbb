// The exact path: rows in source order, prepared statements, one round trip or two per group of
// transactions.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "apply/durability.h"
#include "apply/pipeline.h"
#include "apply/row_failure.h"
#include "apply/standby_session.h"
#include "apply/table_map.h"
#include "base/error.h"
#include "base/lsn.h"
#include "proto/replication.pb.h"
#include "proto/row_block.h"

namespace bitacora::apply {

struct ApplierOptions {
  std::string subscription;
  std::string conninfo;  // for the error path: it renders a row on a connection of its own
  std::uint64_t group_rows_max =
      10000;  // one standby transaction; larger only for one larger source transaction
  std::uint64_t one_trip_rows_max =
      64;  // so small a batch is sent with its COMMIT, guarded row by row
};

// What was applied in this session.
struct AppliedCounts {
  std::uint64_t transactions = 0;
  std::uint64_t rows = 0;
  std::int64_t commit_time_usec = 0;  // of the last applied transaction, the master's clock
};

// One thread owns it, and the session's connection with it. After any error the object is used up:
// the standby has rolled back what was not committed, and a new session continues from the progress
// row.
class Applier {
 public:
  using Batch = std::shared_ptr<const pb::ChangeBatch>;

  // `from` is where the progress row stands.
  Applier(StandbySession& session, TableMap& tables, ApplierOptions options, MasterLsn from);

  Result<void> start();

  // Applies a batch. Whole transactions are committed before it returns unless `more_waiting` says
  // that the group may go on with the next batch; a transaction that is not complete yet stays
  // open.
  Result<void> take(const Batch& batch, bool more_waiting);

  // For quiet moments: writes an idle position that is due, and asks what has become durable.
  Result<void> tick();
  // Something is left for tick() to do.
  bool needs_tick() const { return durability_.pending() || idle_due(); }

  MasterLsn applied() const { return applied_; }  // visible on the standby
  MasterLsn durable() const { return durability_.durable(); }
  const AppliedCounts& counts() const { return counts_; }

 private:
  enum class Sent { kPrepare, kBegin, kRow, kTruncate, kProgress, kCommit, kPosition, kSync };
  struct Expected {
    Sent sent;
    bool counted = false;  // a row statement that must say it touched one row
    RowOrigin row = {};
    Batch batch = nullptr;  // keeps what `row` points into
  };

  Result<void> apply(const Batch& batch, const pb::Part& part);
  Result<void> begin(const pb::Begin& begin);
  Result<void> end(const pb::Commit& commit);
  Result<void> apply_rows(const Batch& batch, const pb::Rows& block);
  Result<void> apply_row(const Batch& batch, const RowOrigin& origin, MappedTable& table,
                         const proto::Row& row);
  Result<PreparedRow*> prepared(MappedTable& table, const RowShape& shape, const Batch& batch,
                                const RowOrigin& origin);
  Result<void> bind(const MappedTable& table, const PreparedRow& prepared, const proto::Row& row);
  Result<void> truncate(const pb::Truncate& truncate);
  static void note_formats(MappedTable& table, const pb::Rows& block);

  Result<void> open_group();
  Result<void> commit_group();
  Result<void> send_progress();
  Result<void> rewrite_progress();  // a group without rows
  Result<void> send(Sent sent, const char* statement);
  Result<void> ask_position();

  Result<void> on_reply(const PGresult* reply);
  Error failure(const Expected& expected, const PGresult* reply) const;
  void read_position(const PGresult* reply);
  bool idle_due() const;

  StandbySession& session_;
  TableMap& tables_;
  const ApplierOptions options_;
  Pipeline pipeline_;
  Durability durability_;
  std::deque<Expected> expected_;

  MasterLsn applied_;      // the progress row
  MasterLsn position_;     // end of the last transaction taken in
  bool skipping_ = false;  // inside a transaction that was applied before
  bool in_transaction_ = false;
  bool group_open_ = false;
  bool one_trip_ = false;
  std::uint64_t group_rows_ = 0;
  std::uint64_t group_transactions_ = 0;
  std::int64_t commit_time_usec_ = 0;  // of the transaction being taken in
  AppliedCounts counts_;
  std::chrono::steady_clock::time_point progressed_at_;
  std::chrono::steady_clock::time_point asked_at_;

  // Reused from row to row.
  Parameters parameters_;
  std::vector<std::string> texts_;
  std::uint64_t statements_ = 0;
};

}  // namespace bitacora::apply
