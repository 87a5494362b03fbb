#include "wal/streamed_batches.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace bitacora::wal {
namespace {

proto::EncodedBatch event(proto::StreamEvent event, std::uint32_t xid) {
  proto::EncodedBatch batch;
  batch.event = event;
  batch.stream_xid = xid;
  return batch;
}

std::string beginning(const StreamCommitMessage& message,
                      const std::vector<std::uint32_t>& aborted) {
  pb::ChangeBatch changes;
  pb::Begin& begin = *changes.add_parts()->mutable_begin();
  begin.set_xid(static_cast<std::int32_t>(message.xid));
  begin.set_commit_lsn(message.commit_lsn.value);
  begin.set_commit_time_usec(message.commit_time_usec);
  begin.mutable_aborted()->Assign(aborted.begin(), aborted.end());
  return proto::serialize_batch(changes);
}

std::string ending(const StreamCommitMessage& message) {
  pb::ChangeBatch changes;
  pb::Commit& commit = *changes.add_parts()->mutable_commit();
  commit.set_commit_lsn(message.commit_lsn.value);
  commit.set_end_lsn(message.end_lsn.value);
  return proto::serialize_batch(changes);
}

proto::EncodedBatch descriptions(const pb::ChangeBatch& described, MasterLsn end) {
  proto::EncodedBatch batch;
  batch.described = std::make_shared<pb::ChangeBatch>(described);
  pb::ChangeBatch changes = described;
  changes.add_parts()->mutable_idle_position()->set_lsn(end.value);
  batch.bytes = proto::serialize_batch(changes);
  batch.end_lsn = end;
  return batch;
}

}  // namespace

void StreamedBatches::start(const StreamStartMessage& message) {
  xid_ = message.xid;
  if (message.first_segment) in_progress_.erase(xid_);
  builder_.begin_block(in_progress_[xid_].left_out);
}

void StreamedBatches::stop() {
  CHECK(empty());
  if (builder_.left_out()) {
    auto& transaction = in_progress_[xid_];
    transaction.left_out = true;
    if (const auto taken = builder_.take(); taken.described)
      keep_described(transaction, *taken.described);
  }
  xid_ = 0;
}

bool StreamedBatches::any_shipped() const {
  return std::any_of(in_progress_.begin(), in_progress_.end(),
                     [](const auto& transaction) { return transaction.second.shipped; });
}

void StreamedBatches::keep_described(InProgress& transaction, const pb::ChangeBatch& described) {
  if (!transaction.described) transaction.described = std::make_shared<pb::ChangeBatch>();
  transaction.described->MergeFrom(described);
}

proto::EncodedBatch StreamedBatches::take() {
  CHECK(in_block());
  auto& transaction = in_progress_[xid_];
  transaction.shipped = true;
  auto taken = builder_.take();
  if (taken.described) keep_described(transaction, *taken.described);
  auto batch = event(proto::StreamEvent::kPart, xid_);
  batch.bytes = std::move(taken.bytes);
  return batch;
}

std::optional<proto::EncodedBatch> StreamedBatches::commit(const StreamCommitMessage& message) {
  const auto transaction = in_progress_.extract(message.xid);
  if (transaction.empty()) return std::nullopt;
  if (transaction.mapped().left_out && transaction.mapped().described)
    return descriptions(*transaction.mapped().described, message.end_lsn);
  if (!transaction.mapped().shipped) return std::nullopt;
  auto batch = event(proto::StreamEvent::kCommit, message.xid);
  batch.bytes = beginning(message, transaction.mapped().aborted);
  batch.closing = ending(message);
  batch.described = transaction.mapped().described;
  batch.end_lsn = message.end_lsn;
  return batch;
}

std::optional<proto::EncodedBatch> StreamedBatches::abort(const StreamAbortMessage& message) {
  const auto transaction = in_progress_.find(message.xid);
  if (transaction == in_progress_.end()) return std::nullopt;
  if (!transaction->second.shipped) {
    if (message.subxid == message.xid) in_progress_.erase(transaction);
    return std::nullopt;
  }
  if (message.subxid != message.xid) {
    transaction->second.aborted.push_back(message.subxid);
    return std::nullopt;
  }
  in_progress_.erase(transaction);
  return event(proto::StreamEvent::kAbort, message.xid);
}

}  // namespace bitacora::wal
