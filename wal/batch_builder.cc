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
  left_out_ = false;
  passed_over_ = false;
  begin_ = message;
  return {};
}

// Not before something of it is shipped: its origin comes behind its Begin, and there may be
// nothing.
void BatchBuilder::begin_transaction() {
  if (!begin_) return;
  complete_before_ = !writer_->empty();
  described_before_ = described_ ? described_->parts_size() : 0;
  writer_->begin(begin_->xid, begin_->commit_lsn.value, begin_->commit_time_usec);
  begin_.reset();
}

Result<void> BatchBuilder::append(const CommitMessage& message) {
  if (!in_transaction_) {
    return Error{ErrorCode::kMaster, "the master ended a transaction that had not begun"};
  }
  in_transaction_ = false;
  left_out_ = false;
  if (begin_ && passed_over_) {
    begin_.reset();
    append_idle_position(message.end_lsn);
    return {};
  }
  begin_transaction();
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
  row_of_ = 0;
  if (is_own(message.relation)) return {};
  if (!left_out_) begin_transaction();
  if (traffic_ != nullptr) traffic_->describe(message.relation);
  pb::Part part;
  *part.mutable_relation() = message.relation;
  describe(part);
  return {};
}

Result<void> BatchBuilder::append(const TypeMessage& message) {
  if (!left_out_) begin_transaction();
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
  if (left_out_) return {};
  if (message.relation_oid != row_of_) {
    RETURN_IF_ERROR(require_known(message.relation_oid));
    if (!relations_->ships(message.relation_oid)) {
      passed_over_ = true;
      return {};
    }
    row_of_ = message.relation_oid;
  }
  begin_transaction();
  enter_subtransaction(message.xid);
  if (writer_->row(message.relation_oid, message.operation, message.row)) return {};
  return Error{
      ErrorCode::kMaster,
      fmt::format("the master sent a row of relation {} whose tuples contradict each other",
                  message.relation_oid)};
}

Result<void> BatchBuilder::append(const TruncateMessage& message) {
  if (left_out_) return {};
  pb::Part part;
  pb::Truncate& truncate = *part.mutable_truncate();
  for (const auto oid : message.relation_oids) {
    RETURN_IF_ERROR(require_known(oid));
    if (relations_->ships(oid)) truncate.add_relation_oids(oid);
  }
  if (truncate.relation_oids().empty()) {
    passed_over_ = true;
    return {};
  }
  begin_transaction();
  enter_subtransaction(message.xid);
  truncate.set_cascade(message.cascade);
  truncate.set_restart_identity(message.restart_identity);
  writer_->add(part);
  return {};
}

Result<void> BatchBuilder::append(const OriginMessage& message) {
  left_out_ = !ships(origins_, message.name);
  passed_over_ = left_out_;
  return {};
}

bool BatchBuilder::passes_over(std::string_view message) const {
  return left_out_ && !message.empty() &&
         std::string_view("IUDT").find(message.front()) != std::string_view::npos;
}

// pg_logical_emit_message: nothing to apply.
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
  const bool begun = in_transaction_ && !begin_;
  const bool splits = begun && complete_before_;
  proto::EncodedBatch taken;
  taken.bytes = splits ? writer_->take_before_transaction() : writer_->take();
  if (traffic_ != nullptr) traffic_->add(writer_->written());
  writer_->forget_written();
  taken.described = take_described(splits);
  taken.end_lsn = end_lsn_ > taken_lsn_ ? end_lsn_ : MasterLsn{};
  taken.transaction_open = begun && !splits;
  taken_lsn_ = end_lsn_;
  complete_before_ = false;
  subtransaction_ = 0;
  return taken;
}

}  // namespace bitacora::wal
