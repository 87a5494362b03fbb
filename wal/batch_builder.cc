#include "wal/batch_builder.h"

#include <fmt/format.h>

namespace bitacora::wal {

Result<void> BatchBuilder::append(const PgOutputMessage& message) {
  return std::visit([this](const auto& concrete) { return append(concrete); }, message);
}

namespace {

constexpr std::size_t kPartBytes = 32;  // beside its rows

}  // namespace

pb::Part& BatchBuilder::add_part() {
  finish_block();
  bytes_ += kPartBytes;
  return *batch_->add_parts();
}

void BatchBuilder::finish_block() {
  if (!block_) return;
  bytes_ += block_->bytes();
  block_->finish(*batch_->add_parts()->mutable_rows());
  block_.reset();
}

Result<void> BatchBuilder::require_known(std::uint32_t relation_oid) const {
  if (relations_.knows(relation_oid)) return {};
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
  pb::Begin& begin = *add_part().mutable_begin();
  begin.set_xid(message.xid);
  begin.set_commit_lsn(message.commit_lsn.value);
  begin.set_commit_time_usec(message.commit_time_usec);
  return {};
}

Result<void> BatchBuilder::append(const CommitMessage& message) {
  if (!in_transaction_) {
    return Error{ErrorCode::kMaster, "the master ended a transaction that had not begun"};
  }
  in_transaction_ = false;
  pb::Commit& commit = *add_part().mutable_commit();
  commit.set_commit_lsn(message.commit_lsn.value);
  commit.set_end_lsn(message.end_lsn.value);
  end_lsn_ = std::max(end_lsn_, message.end_lsn);
  note_complete();
  return {};
}

Result<void> BatchBuilder::append(const RelationMessage& message) {
  relations_.put(message.relation);
  *add_part().mutable_relation() = message.relation;
  describes_ = true;
  return {};
}

Result<void> BatchBuilder::append(const TypeMessage& message) {
  *add_part().mutable_type() = message.type;
  describes_ = true;
  return {};
}

Result<void> BatchBuilder::append(const RowMessage& message) {
  if (block_ && block_->append(message.relation_oid, message.operation, message.row)) return {};
  RETURN_IF_ERROR(require_known(message.relation_oid));
  finish_block();
  block_.emplace(message.relation_oid, message.operation);
  if (block_->append(message.relation_oid, message.operation, message.row)) return {};
  return Error{
      ErrorCode::kMaster,
      fmt::format("the master sent a row of relation {} whose tuples contradict each other",
                  message.relation_oid)};
}

Result<void> BatchBuilder::append(const TruncateMessage& message) {
  for (const auto oid : message.relation_oids) RETURN_IF_ERROR(require_known(oid));
  pb::Truncate& truncate = *add_part().mutable_truncate();
  truncate.mutable_relation_oids()->Assign(message.relation_oids.begin(),
                                           message.relation_oids.end());
  truncate.set_cascade(message.cascade);
  truncate.set_restart_identity(message.restart_identity);
  return {};
}

// Where a transaction came from before this master, and pg_logical_emit_message: nothing to apply.
Result<void> BatchBuilder::append(const OriginMessage& /*message*/) { return {}; }
Result<void> BatchBuilder::append(const LogicalMessage& /*message*/) { return {}; }

template <class Streamed>
Result<void> BatchBuilder::append(const Streamed& /*message*/) {
  return Error{ErrorCode::kInternal,
               "the master streamed a transaction in progress, which was not asked for"};
}

void BatchBuilder::append_idle_position(MasterLsn lsn) {
  CHECK(!in_transaction_);
  if (lsn <= end_lsn_) return;
  const int last = batch_->parts_size() - 1;
  const bool follows_another = !block_ && last >= 0 && batch_->parts(last).has_idle_position();
  auto& part = follows_another ? *batch_->mutable_parts(last) : add_part();
  part.mutable_idle_position()->set_lsn(lsn.value);
  end_lsn_ = lsn;
  note_complete();
}

bool BatchBuilder::holds_only_a_position() const {
  return !block_ && batch_->parts_size() == 1 && batch_->parts(0).has_idle_position();
}

void BatchBuilder::note_complete() {
  complete_parts_ = batch_->parts_size();
  complete_bytes_ = bytes_;
}

pb::ChangeBatch BatchBuilder::split_off_open_transaction() {
  pb::ChangeBatch open;
  if (!in_transaction_ || complete_parts_ == 0) return open;
  const int parts = batch_->parts_size();
  for (int i = complete_parts_; i < parts; ++i) open.add_parts()->Swap(batch_->mutable_parts(i));
  batch_->mutable_parts()->DeleteSubrange(complete_parts_, parts - complete_parts_);
  bytes_ -= complete_bytes_;
  return open;
}

std::shared_ptr<const pb::ChangeBatch> BatchBuilder::described() const {
  auto described = std::make_shared<pb::ChangeBatch>();
  for (const auto& part : batch_->parts()) {
    if (part.has_relation() || part.has_type()) *described->add_parts() = part;
  }
  return described->parts().empty() ? nullptr : described;
}

proto::EncodedBatch BatchBuilder::take() {
  finish_block();
  pb::ChangeBatch rest = split_off_open_transaction();
  proto::EncodedBatch taken;
  const bool serialized = batch_->SerializeToString(&taken.bytes);
  CHECK(serialized);
  if (describes_) taken.described = described();
  describes_ = describes_ && !rest.parts().empty();
  taken.end_lsn = end_lsn_ > taken_lsn_ ? end_lsn_ : MasterLsn{};
  taken.transaction_open = in_transaction_ && rest.parts().empty();
  taken_lsn_ = end_lsn_;
  arena_->Reset();
  batch_ = new_batch();
  if (rest.parts().empty()) {
    bytes_ = 0;
  } else {
    batch_->Swap(&rest);
  }
  complete_parts_ = 0;
  complete_bytes_ = 0;
  return taken;
}

}  // namespace bitacora::wal
