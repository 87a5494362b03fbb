// The appending side of the spool.
#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/fault_point.h"
#include "transport/spool.h"

namespace bitacora::transport {

Result<Appended> Spool::append(const pb::Frame& frame, bool in_transaction_after,
                               std::int64_t now_usec) {
  // A segment must be durable before the next one is made: so only the last one can be torn.
  if (frame.context_reset()) RETURN_IF_ERROR(sync());
  const std::lock_guard lock(mutex_);
  RETURN_IF_ERROR(usable());
  RETURN_IF_ERROR(check_frame(frame, in_transaction_after));
  auto stored = store(frame, now_usec);
  if (!stored.ok()) {
    broken_ = stored.error();
    return stored.error();
  }
  if (*stored == Appended::kFull) return Appended{};
  note_appended(frame, in_transaction_after);
  const Segment& last = *segments_.back();
  return Appended{Appended::kAppended, {last.facts.number, last.facts.bytes, last.life, end_.lsn}};
}

Result<void> Spool::check_frame(const pb::Frame& frame, bool in_transaction_after) const {
  const auto refused = [&](const char* why) {
    return Error{ErrorCode::kNetwork,
                 fmt::format("frame {} refused by the spool: {}", frame.sequence(), why),
                 "it heals by a new connection; if it comes back, compare the versions of both "
                 "sides",
                 Recovery::kRetry};
  };
  if (!connected_) return refused("its connection has not begun");
  if (segment_due_ && !frame.context_reset()) return refused("it continues another connection");
  if (batch_open_ && frame.context_reset()) return refused("a reset inside a batch");
  if (is_cut_point(frame) && in_transaction_after) return refused("a position in a transaction");
  if (frame.ByteSizeLong() > kSegmentRecordBytesMax) {
    return refused("it is too large");
  }
  return {};
}

Result<Appended::Outcome> Spool::store(const pb::Frame& frame, std::int64_t now_usec) {
  const auto record = encode_segment_record(frame);
  while (true) {
    ASSIGN_OR_RETURN(const bool room, has_room(record.size()));
    if (room) {
      ASSIGN_OR_RETURN(const auto outcome, frame.context_reset() ? begin_segment(record, now_usec)
                                                                 : continue_segment(record));
      if (outcome == WriteOutcome::kDone) return Appended::kAppended;
    }
    ASSIGN_OR_RETURN(const bool freed, free_some());
    if (!freed) return Appended::kFull;
  }
}

Result<bool> Spool::has_room(std::uint64_t bytes) const {
  // The segments that a new beginning replaces leave the disk only when it is there.
  if (!doomed_.empty()) return true;
  ASSIGN_OR_RETURN(const auto free, storage_->free_bytes());
  if (free < options_.disk_reserve_bytes || free - options_.disk_reserve_bytes < bytes) {
    return false;
  }
  return bytes_ + streamed_.bytes() + bytes <= options_.bytes_max || applied_ >= end_.lsn;
}

Result<Appended> Spool::append_streamed(const StreamedFrame& streamed) {
  const std::lock_guard lock(mutex_);
  RETURN_IF_ERROR(usable());
  const auto record = encode_segment_record(streamed.frame);
  while (true) {
    ASSIGN_OR_RETURN(const bool room, noting_failure(has_room(record.size())));
    if (room) {
      ASSIGN_OR_RETURN(
          const auto outcome,
          noting_failure(streamed_.append(streamed.xid, record, streamed.frame.context_reset())));
      if (outcome == WriteOutcome::kDone) return Appended{Appended::kAppended, {}};
    }
    ASSIGN_OR_RETURN(const bool freed, noting_failure(free_some()));
    if (!freed) return Appended{};
  }
}

Result<std::optional<pb::Frame>> Spool::take_streamed(std::uint32_t xid) {
  const std::lock_guard lock(mutex_);
  RETURN_IF_ERROR(usable());
  return noting_failure(streamed_.take(xid));
}

Result<void> Spool::drop_streamed(std::uint32_t xid) {
  const std::lock_guard lock(mutex_);
  RETURN_IF_ERROR(usable());
  return noting_failure(streamed_.drop(xid));
}

// True when something was removed that nobody needs.
Result<bool> Spool::free_some() {
  if (!doomed_.empty()) {
    RETURN_IF_ERROR(storage_->remove(segment_name(doomed_.back())));
    doomed_.pop_back();
    if (options_.sync) RETURN_IF_ERROR(storage_->sync_directory());
    return true;
  }
  if (segments_.empty() || !only_kept(*segments_.front())) return false;
  for (const auto& dropped : drop_oldest())
    RETURN_IF_ERROR(storage_->remove(segment_name(dropped.number)));
  return true;
}

Result<WriteOutcome> Spool::continue_segment(const std::string& record) {
  fault_point("spool.before_append");
  ASSIGN_OR_RETURN(const auto outcome, file_->append(record));
  fault_point("spool.after_append");
  if (outcome == WriteOutcome::kFull) return outcome;
  segments_.back()->facts.bytes += record.size();
  bytes_ += record.size();
  ++changes_;
  return outcome;
}

Result<WriteOutcome> Spool::begin_segment(const std::string& record, std::int64_t now_usec) {
  const auto name = segment_name(next_number_);
  const auto header = encode_segment_header(next_header(now_usec));
  fault_point("segment.before_create");
  ASSIGN_OR_RETURN(const auto file, storage_->create(name));
  fault_point("segment.after_create");
  if (!file) return WriteOutcome::kFull;
  ASSIGN_OR_RETURN(const auto outcome, file->append(header + record));
  if (outcome == WriteOutcome::kFull) {
    RETURN_IF_ERROR(storage_->remove(name));
    return outcome;
  }
  fault_point("segment.after_header");
  RETURN_IF_ERROR(make_durable(*file));
  const SegmentFacts facts{next_number_, end_.lsn,      in_transaction_,
                           now_usec,     header.size(), header.size() + record.size()};
  segments_.push_back(std::make_shared<Segment>(Segment{facts, next_life_++}));
  bytes_ += facts.bytes;
  ++changes_;
  ++next_number_;
  file_ = file;
  if (!in_transaction_) end_ = {facts.number, header.size(), end_.lsn};
  return outcome;
}

// Its name; and when it is a new beginning its content too, before the old segments go.
Result<void> Spool::make_durable(StorageFile& file) {
  if (options_.sync) {
    if (!doomed_.empty()) RETURN_IF_ERROR(file.sync());
    RETURN_IF_ERROR(storage_->sync_directory());
  }
  for (const auto number : std::exchange(doomed_, {})) {
    RETURN_IF_ERROR(storage_->remove(segment_name(number)));
  }
  return {};
}

pb::SpoolHeader Spool::next_header(std::int64_t now_usec) const {
  pb::SpoolHeader header;
  *header.mutable_identity() = *identity_;
  header.set_number(next_number_);
  header.set_start_lsn(end_.lsn.value);
  header.set_in_transaction(in_transaction_);
  for (const auto& [oid, relation] : relations_) *header.add_relations() = relation;
  for (const auto& [oid, type] : types_) *header.add_types() = type;
  header.set_created_usec(now_usec);
  header.set_timeline(timeline_);
  return header;
}

void Spool::note_appended(const pb::Frame& frame, bool in_transaction_after) {
  segment_due_ = false;
  batch_open_ = frame.more();
  in_transaction_ = in_transaction_after;
  if (!is_cut_point(frame)) return;
  const SegmentFacts& last = segments_.back()->facts;
  end_ = {last.number, last.bytes, std::max(end_.lsn, MasterLsn{frame.end_lsn()})};
}

}  // namespace bitacora::transport
