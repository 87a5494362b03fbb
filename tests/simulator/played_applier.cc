#include "tests/simulator/played_applier.h"

#include <algorithm>

#include "proto/row_block.h"

namespace bitacora::simulator {

PlayedApplier::PlayedApplier(const PlayedMaster& master, PlayedStandby& standby, MasterLsn from,
                             TablePatterns tables)
    : master_(master),
      tables_(std::move(tables)),
      standby_(standby),
      durability_(from),
      applied_(from),
      position_(from),
      transactions_(standby.state().transactions) {}

bool PlayedApplier::take(const pb::ChangeBatch& batch, bool more_waiting) {
  // A transaction whose end is not here yet must not hold back those before it.
  int last_commit = batch.parts_size() - 1;
  while (last_commit >= 0 && !batch.parts(last_commit).has_commit()) --last_commit;
  for (int i = 0; i < batch.parts_size(); ++i) {
    if (batch.parts(i).has_begin() && i > last_commit && position_ > applied_) commit_group();
    take(batch.parts(i));
    if (broken_off_) return false;
  }
  if (open_ == nullptr && !more_waiting && position_ > applied_) commit_group();
  return true;
}

void PlayedApplier::take(const pb::Part& part) {
  switch (part.kind_case()) {
    case pb::Part::kBegin:
      return begin(part.begin());
    case pb::Part::kCommit:
      return end(part.commit());
    case pb::Part::kRelation:
      relations_[part.relation().oid()] = part.relation();
      return;
    case pb::Part::kRows:
      return rolled_back_ ? void() : take_rows(part.rows());
    case pb::Part::kSubtransaction:
      rolled_back_ = rolled_back_xids_.contains(part.subtransaction());
      return;
    case pb::Part::kIdlePosition:
      broken_off_ = open_ != nullptr && skipping_;
      if (broken_off_) return;
      require(open_ == nullptr, "an idle position inside a transaction");
      position_ = std::max(position_, MasterLsn{part.idle_position().lsn()});
      pass_over(master_.transactions_before(position_));
      return;
    default:
      throw Violation("a part of another kind");
  }
}

// Up to here nothing comes any more: nothing of its own may have been left out.
void PlayedApplier::pass_over(std::size_t transactions) {
  for (; transactions_ < transactions; ++transactions_) {
    const auto& left_out = master_.history().at(transactions_);
    require(!tables_.matches("public", left_out.other ? "otros" : "datos"),
            "transaction {} was left out", left_out.xid);
  }
}

void PlayedApplier::begin(const pb::Begin& begin) {
  broken_off_ = open_ != nullptr && skipping_;
  if (broken_off_) return;
  require(open_ == nullptr, "transaction {} begins inside {}", begin.xid(), open_ ? open_->xid : 0);
  open_ = &master_.history().at(static_cast<std::size_t>(begin.xid()) - 1);
  rolled_back_ = false;
  rolled_back_xids_ = {begin.aborted().begin(), begin.aborted().end()};
  rows_ = 0;
  skipping_ = MasterLsn{begin.commit_lsn()} < position_;
  if (skipping_) return;
  pass_over(open_->xid - 1);
  require(open_->xid == transactions_ + 1, "transaction {} follows {}", begin.xid(), transactions_);
  require(tables_.matches("public", open_->other ? "otros" : "datos"),
          "transaction {} is of a table that is not taken", open_->xid);
}

void PlayedApplier::take_rows(const pb::Rows& block) {
  require(open_ != nullptr, "rows outside a transaction");
  const auto relation = relations_.find(block.relation_oid());
  require(relation != relations_.end(), "rows of a relation that was not described");
  const auto columns = static_cast<std::size_t>(relation->second.columns_size());
  proto::RowBlockReader reader(block, columns);
  proto::Row row;
  while (!reader.done()) {
    const auto read = reader.next(row);
    require(read.ok(), "transaction {}: {} columns are described, another number comes", open_->xid,
            columns);
    const auto expected = row_values(*open_, ++rows_);
    require(row.new_tuple.size() == expected.size() && row.new_tuple.front().bytes == expected[0],
            "transaction {}: row {} is another one", open_->xid, rows_);
  }
}

void PlayedApplier::end(const pb::Commit& commit) {
  require(open_ != nullptr, "a commit outside a transaction");
  require(rows_ == open_->rows, "transaction {}: {} rows of {}", open_->xid, rows_, open_->rows);
  open_ = nullptr;
  if (skipping_) return;
  require(MasterLsn{commit.end_lsn()} > position_, "a transaction ends before the one before");
  position_ = MasterLsn{commit.end_lsn()};
  ++transactions_;
}

void PlayedApplier::commit_group() {
  standby_.commit(transactions_, position_);
  applied_ = position_;
  durability_.on_commit(applied_, standby_.inserted());
}

void PlayedApplier::tick() {
  if (open_ == nullptr && position_ > applied_) commit_group();
  durability_.on_flush(standby_.flushed());
}

}  // namespace bitacora::simulator
