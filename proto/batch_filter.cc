#include "proto/batch_filter.h"

#include <algorithm>
#include <set>
#include <utility>

#include <fmt/format.h>

namespace bitacora::proto {
namespace {

Error heals(std::string message) {
  return {ErrorCode::kInternal, std::move(message), {}, Recovery::kRetry};
}

Error no_batch() { return heals("what was read for the receivers is no batch"); }

Result<void> parsed(bool ok) { return ok ? Result<void>{} : no_batch(); }

bool parse(const RawPart& part, pb::Part& into) {
  return into.ParseFromArray(part.message.data(), static_cast<int>(part.message.size()));
}

Result<bool> is_taken(const std::map<std::uint32_t, bool>& described, std::uint32_t oid) {
  const auto found = described.find(oid);
  if (found != described.end()) return found->second;
  return heals(fmt::format("a change of relation {} came before its description", oid));
}

}  // namespace

Result<SharedBatch> BatchFilter::filter(const SharedBatch& batch) {
  switch (batch->event) {
    case StreamEvent::kNone:
      return filter_in_order(batch);
    case StreamEvent::kPart:
      return filter_part(batch);
    case StreamEvent::kCommit:
      return filter_commit(batch);
    case StreamEvent::kAbort:
      break;
  }
  return filter_abort(batch);
}

Result<SharedBatch> BatchFilter::filter_in_order(const SharedBatch& batch) {
  BatchRewriter rewriter(batch->bytes, begin_);
  RETURN_IF_ERROR(walk(rewriter, batch->bytes, described_));
  in_sent_ = batch->transaction_open && !begin_;
  return finish(batch, rewriter);
}

// Its rows count for the position when it commits.
Result<SharedBatch> BatchFilter::filter_part(const SharedBatch& batch) {
  auto& streamed = streamed_[batch->stream_xid];
  HeldPart subtransaction;
  BatchRewriter rewriter(batch->bytes, subtransaction);
  RETURN_IF_ERROR(walk(rewriter, batch->bytes, streamed.described));
  rewriter.leave_out_held();
  if (!rewriter.anything_left()) return SharedBatch{};
  auto left = batch;
  if (rewriter.changed()) {
    auto bytes = rewriter.take();
    left = std::make_shared<const EncodedBatch>(EncodedBatch{
        .bytes = std::move(bytes), .event = batch->event, .stream_xid = batch->stream_xid});
  }
  streamed.sent = true;
  return left;
}

// Who lacks what was described in this run gets it in front of the Begin.
Result<SharedBatch> BatchFilter::filter_commit(const SharedBatch& batch) {
  const auto streamed = streamed_.extract(batch->stream_xid);
  if (streamed.empty()) {
    return heals(
        fmt::format("transaction {} came to its commit before its rows did", batch->stream_xid));
  }
  BatchRewriter rewriter(batch->bytes, begin_);
  RETURN_IF_ERROR(walk(rewriter, batch->bytes, described_));
  for (const auto& [oid, taken] : streamed.mapped().described)
    described_.insert_or_assign(oid, taken);
  in_sent_ = false;
  if (!streamed.mapped().sent) {
    rewriter.leave_out_held();
    return finish(batch, rewriter);
  }
  rewriter.keep_held();
  complete_ = std::max(complete_, batch->end_lsn);
  said_ = std::max(said_, batch->end_lsn);  // what was complete before may be further
  if (!rewriter.changed()) return batch;
  auto left = std::make_shared<EncodedBatch>(*batch);
  left->bytes = rewriter.take();
  return SharedBatch(std::move(left));
}

SharedBatch BatchFilter::filter_abort(const SharedBatch& batch) {
  const auto streamed = streamed_.extract(batch->stream_xid);
  return !streamed.empty() && streamed.mapped().sent ? batch : nullptr;
}

// What is left of a batch in the order of commits, with the position that it leads to.
SharedBatch BatchFilter::finish(const SharedBatch& batch, BatchRewriter& rewriter) {
  rewriter.take_held_along();
  complete_ = std::max(complete_, batch->end_lsn);
  if (!rewriter.changed()) {
    said_ = std::max(said_, batch->end_lsn);
    return batch;
  }
  EncodedBatch left;
  left.transaction_open = in_sent_;
  if (!rewriter.anything_left()) return nullptr;
  if (const auto position = unsaid(); position.valid()) {
    if (rewriter.said_lsn() < position.value) rewriter.add_idle_position(position.value);
    left.end_lsn = said_ = position;
  }
  left.bytes = rewriter.take();
  return std::make_shared<const EncodedBatch>(std::move(left));
}

MasterLsn BatchFilter::unsaid() const {
  return in_sent_ || complete_ <= said_ ? MasterLsn{} : complete_;
}

SharedBatch BatchFilter::say_position() {
  said_ = complete_;
  pb::ChangeBatch changes;
  changes.add_parts()->mutable_idle_position()->set_lsn(said_.value);
  return std::make_shared<const EncodedBatch>(
      EncodedBatch{.bytes = serialize_batch(changes), .end_lsn = said_});
}

Result<void> BatchFilter::walk(BatchRewriter& rewriter, std::string_view bytes, Taken& described) {
  PartWalker walker(bytes);
  while (const auto part = walker.next()) RETURN_IF_ERROR(take(rewriter, *part, described));
  return parsed(walker.at_end());
}

Result<void> BatchFilter::take(BatchRewriter& rewriter, const RawPart& part, Taken& described) {
  switch (part.kind) {
    case pb::Part::kBegin:
    case pb::Part::kSubtransaction:
      return parsed(rewriter.hold(part));
    case pb::Part::kCommit: {
      const bool nothing_sent = begin_.has_value();
      if (nothing_sent) rewriter.leave_out_held();
      return parsed(nothing_sent ? rewriter.leave_out(part) : rewriter.keep(part));
    }
    case pb::Part::kRelation:
      return take_relation(rewriter, part, described);
    case pb::Part::kType:
      RETURN_IF_ERROR(note_type(part));
      return parsed(rewriter.leave_out(part));
    case pb::Part::kRows:
      return take_rows(rewriter, part, described);
    case pb::Part::kTruncate:
      return take_truncate(rewriter, part, described);
    case pb::Part::kIdlePosition:  // finish() says it where the batch is another one anyway
      return parsed(rewriter.changed() ? rewriter.leave_out(part) : rewriter.keep(part));
    case pb::Part::KIND_NOT_SET:
      break;
  }
  return no_batch();  // of whatever table that is
}

Result<void> BatchFilter::note_type(const RawPart& part) {
  pb::Part type;
  if (!parse(part, type)) return no_batch();
  types_.insert_or_assign(type.type().oid(), std::string(part.whole));
  return {};
}

Result<void> BatchFilter::take_relation(BatchRewriter& rewriter, const RawPart& part,
                                        Taken& described) {
  pb::Part parsed_part;
  if (!parse(part, parsed_part)) return no_batch();
  const auto& relation = parsed_part.relation();
  const bool taken = takes_(relation.schema(), relation.name());
  described.insert_or_assign(relation.oid(), taken);
  if (!taken) return parsed(rewriter.leave_out(part));
  std::set<std::uint32_t> used;
  for (const auto& column : relation.columns()) used.insert(column.type_oid());
  for (const auto oid : used) {
    if (const auto type = types_.find(oid); type != types_.end())
      rewriter.insert_before(part, type->second);
  }
  return parsed(rewriter.keep(part));
}

Result<void> BatchFilter::take_rows(BatchRewriter& rewriter, const RawPart& part,
                                    const Taken& described) {
  ASSIGN_OR_RETURN(const bool taken, is_taken(described, relation_oid_of_rows(part.inner)));
  return parsed(taken ? rewriter.keep(part) : rewriter.leave_out(part));
}

Result<void> BatchFilter::take_truncate(BatchRewriter& rewriter, const RawPart& part,
                                        const Taken& described) {
  pb::Part all;
  if (!parse(part, all)) return no_batch();
  auto left = all;
  left.mutable_truncate()->clear_relation_oids();
  for (const auto oid : all.truncate().relation_oids()) {
    ASSIGN_OR_RETURN(const bool taken, is_taken(described, oid));
    if (taken) left.mutable_truncate()->add_relation_oids(oid);
  }
  const auto tables = left.truncate().relation_oids_size();
  if (tables == all.truncate().relation_oids_size()) return parsed(rewriter.keep(part));
  if (tables == 0) return parsed(rewriter.leave_out(part));
  rewriter.keep_as(part, left);
  return {};
}

}  // namespace bitacora::proto
