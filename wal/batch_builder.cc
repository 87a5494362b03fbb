#include "wal/batch_builder.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/check.h"

namespace bitacora::wal {

Result<void> BatchBuilder::append(const PgOutputMessage& message) {
  return std::visit([this](const auto& concrete) { return append(concrete); }, message);
}

Result<void> BatchBuilder::require_known(std::uint32_t relation_oid) const {
  if (relations_->knows(relation_oid)) return {};
  return Error{
      ErrorCode::kMaster,
      fmt::format("the master sent a change of relation {} without describing it", relation_oid),
      "restart the sender; if it happens again, report it with the master's version"};
}

Result<void> BatchBuilder::append(const BeginMessage& message) {
  if (in_transaction_) {
    return Error{ErrorCode::kMaster, "the master began a transaction inside another one"};
  }
  in_transaction_ = true;
  complete_before_ = !writer_->empty();
  described_before_ = described_ ? described_->parts_size() : 0;
  writer_->begin(message.xid, message.commit_lsn.value, message.commit_time_usec);
  return {};
}

Result<void> BatchBuilder::append(const CommitMessage& message) {
  if (!in_transaction_) {
    return Error{ErrorCode::kMaster, "the master ended a transaction that had not begun"};
  }
  in_transaction_ = false;
  writer_->commit(message.commit_lsn.value, message.end_lsn.value);
  end_lsn_ = std::max(end_lsn_, message.end_lsn);
  return {};
}

void BatchBuilder::describe(const pb::Part& part) {
  writer_->add(part);
  if (!described_) described_ = std::make_shared<pb::ChangeBatch>();
  *described_->add_parts() = part;
}

Result<void> BatchBuilder::append(const RelationMessage& message) {
  relations_->put(message.relation);
  if (traffic_ != nullptr) traffic_->describe(message.relation);
  pb::Part part;
  *part.mutable_relation() = message.relation;
  describe(part);
  return {};
}

Result<void> BatchBuilder::append(const TypeMessage& message) {
  pb::Part part;
  *part.mutable_type() = message.type;
  describe(part);
  return {};
}

void BatchBuilder::enter_subtransaction(std::uint32_t xid) {
  if (xid == subtransaction_) return;
  subtransaction_ = xid;
  pb::Part part;
  part.set_subtransaction(xid);
  writer_->add(part);
}

Result<void> BatchBuilder::append(const RowMessage& message) {
  if (message.relation_oid != row_of_) RETURN_IF_ERROR(require_known(message.relation_oid));
  row_of_ = message.relation_oid;
  enter_subtransaction(message.xid);
  if (writer_->row(message.relation_oid, message.operation, message.row)) return {};
  return Error{
      ErrorCode::kMaster,
      fmt::format("the master sent a row of relation {} whose tuples contradict each other",
                  message.relation_oid)};
}

Result<void> BatchBuilder::append(const TruncateMessage& message) {
  for (const auto oid : message.relation_oids) RETURN_IF_ERROR(require_known(oid));
  enter_subtransaction(message.xid);
  pb::Part part;
  pb::Truncate& truncate = *part.mutable_truncate();
  truncate.mutable_relation_oids()->Assign(message.relation_oids.begin(),
                                           message.relation_oids.end());
  truncate.set_cascade(message.cascade);
  truncate.set_restart_identity(message.restart_identity);
  writer_->add(part);
  return {};
}

// Where a transaction came from before this master, and pg_logical_emit_message: nothing to apply.
Result<void> BatchBuilder::append(const OriginMessage& /*message*/) { return {}; }
Result<void> BatchBuilder::append(const LogicalMessage& /*message*/) { return {}; }

template <class Streamed>
Result<void> BatchBuilder::append(const Streamed& /*message*/) {
  return Error{ErrorCode::kInternal, "a streamed block's end is no part of a batch"};
}

void BatchBuilder::append_idle_position(MasterLsn lsn) {
  CHECK(!in_transaction_);
  if (lsn <= end_lsn_) return;
  writer_->idle_position(lsn.value);
  end_lsn_ = lsn;
}

// What the transaction that stays has described stays with it.
std::shared_ptr<const pb::ChangeBatch> BatchBuilder::take_described(bool splits) {
  auto taken = std::exchange(described_, nullptr);
  if (!splits || !taken || taken->parts_size() == described_before_) return taken;
  described_ = std::make_shared<pb::ChangeBatch>(*taken);
  described_->mutable_parts()->DeleteSubrange(0, described_before_);
  taken->mutable_parts()->DeleteSubrange(described_before_,
                                         taken->parts_size() - described_before_);
  if (taken->parts().empty()) return nullptr;
  return taken;
}

proto::EncodedBatch BatchBuilder::take() {
  const bool splits = in_transaction_ && complete_before_;
  proto::EncodedBatch taken;
  taken.bytes = splits ? writer_->take_before_transaction() : writer_->take();
  if (traffic_ != nullptr) traffic_->add(writer_->written());
  writer_->forget_written();
  taken.described = take_described(splits);
  taken.end_lsn = end_lsn_ > taken_lsn_ ? end_lsn_ : MasterLsn{};
  taken.transaction_open = in_transaction_ && !splits;
  taken_lsn_ = end_lsn_;
  complete_before_ = false;
  subtransaction_ = 0;
  return taken;
}

}  // namespace bitacora::wal
