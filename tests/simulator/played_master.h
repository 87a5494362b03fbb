// A master without PostgreSQL: a history of committed transactions, WAL that is none of ours
// between them, and one slot.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/lsn.h"
#include "proto/replication.pb.h"
#include "tests/simulator/chance.h"
#include "wal/batch_builder.h"
#include "wal/streamed_batches.h"

namespace bitacora::simulator {

struct PlayedTransaction {
  std::uint32_t xid = 0;
  MasterLsn commit_lsn;
  MasterLsn end_lsn;
  std::uint32_t rows = 0;
  std::uint32_t columns = 1;  // of the relation, when this transaction ran
  bool other = false;         // its rows are of the other table
};

pb::Identity played_identity();
pb::Relation played_relation(std::uint32_t columns, bool other = false);
// The values of one row, as they must arrive.
std::vector<std::string> row_values(const PlayedTransaction& transaction, std::uint32_t row);

class PlayedMaster {
 public:
  explicit PlayedMaster(Chance& chance) : chance_(chance) {}

  void commit();
  void write_other_wal();

  // Grows only: its transactions stay where they are.
  const std::deque<PlayedTransaction>& history() const { return history_; }
  MasterLsn wal_end() const { return wal_end_; }
  // How many transactions a standby at this position has.
  std::size_t transactions_before(MasterLsn position) const;

  MasterLsn confirmed() const { return confirmed_; }
  void confirm(MasterLsn flushed);
  void save_slot() { saved_ = confirmed_; }
  // The slot falls back to what was saved, and every reading ends.
  void crash();
  int life() const { return life_; }

 private:
  Chance& chance_;
  std::deque<PlayedTransaction> history_;
  std::uint32_t columns_ = 1;
  MasterLsn wal_end_{1000};
  MasterLsn confirmed_{1000};
  MasterLsn saved_{1000};
  int life_ = 1;
};

// Where a reader puts what it reads: what is due goes out before what the builder holds.
struct ReadChanges {
  std::shared_ptr<wal::RelationCache> relations = std::make_shared<wal::RelationCache>();
  wal::BatchBuilder builder{relations};
  wal::StreamedBatches streamed{relations};
  std::deque<proto::EncodedBatch> due = {};
};

// One START_REPLICATION: messages in the walsender's order.
class SlotReading {
 public:
  // As PostgreSQL does, it begins where the slot stands if that is later.
  SlotReading(const PlayedMaster& master, MasterLsn start);

  int life() const { return life_; }
  // Takes in the next message; false when there is none yet.
  bool read(ReadChanges& into, Chance& chance);
  // The same for who has nothing streamed.
  bool read_whole(wal::BatchBuilder& builder);
  // A keepalive's position.
  void read_idle_position(wal::BatchBuilder& builder, Chance& chance);
  // Between transactions: some rows of one that commits later, or never does.
  void read_block(ReadChanges& into, Chance& chance);

 private:
  void read_plain(wal::BatchBuilder& builder, const PlayedTransaction& transaction);
  void read_rest(ReadChanges& into, const PlayedTransaction& transaction, Chance& chance);
  void read_rows(ReadChanges& into, const PlayedTransaction& transaction, std::uint32_t rows,
                 Chance& chance);
  void read_doomed(ReadChanges& into, Chance& chance);
  void finish_transaction(const PlayedTransaction& transaction);

  const PlayedMaster& master_;
  int life_;
  std::size_t transaction_;
  MasterLsn position_;
  std::uint32_t message_ = 0;  // of the transaction: 0 is Begin, then rows, then Commit
  std::map<bool, std::uint32_t> described_;  // columns of either table, as last described
  std::map<std::uint32_t, std::uint32_t> streamed_rows_;  // by xid, of what has not committed here
  std::uint32_t doomed_ = 0;                              // transactions that never commit
};

}  // namespace bitacora::simulator
