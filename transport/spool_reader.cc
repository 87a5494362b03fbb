#include "transport/spool_reader.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/check.h"
#include "proto/batch.h"

namespace bitacora::transport {

Result<SpoolEvent> SpoolReader::next() {
  while (true) {
    if (due_) return *std::exchange(due_, std::nullopt);
    ASSIGN_OR_RETURN(const auto outlook, look());
    if (outlook.cut_off) {
      abandon();
    } else if (outlook.next) {
      RETURN_IF_ERROR(enter(outlook.next, outlook.next_file));
    } else if (outlook.readable != 0) {
      ASSIGN_OR_RETURN(auto event, take(outlook.readable));
      if (event) return *std::move(event);
    } else {
      return SpoolEvent(SpoolTail{});
    }
  }
}

Result<Spool::Outlook> SpoolReader::look() const {
  const std::uint64_t offset = segment_ ? scanner_->offset() : 0;
  return spool_.look(segment_, life_, offset, std::max(offset, silent_until_));
}

void SpoolReader::abandon() {
  segment_ = nullptr;
  decoder_.reset();
  silent_until_ = 0;
  sequence_ = 0;
  due_ = SpoolAbandoned{};
}

Result<void> SpoolReader::enter(const Spool::SharedSegment& segment,
                                std::shared_ptr<const StorageFile> file) {
  RETURN_IF_ERROR(check_follows(segment->facts));
  if (life_ == 0) {
    ASSIGN_OR_RETURN(const auto scanned, read_segment_header(*file));
    if (!scanned.damage.empty()) {
      return segment_damaged(file->path(), 0, scanned.damage, segment->facts.start_lsn,
                             spool_.end_of(*segment));
    }
    describe(scanned.header);
  }
  if (!segment_ || segment_->facts.number + 1 != segment->facts.number) sequence_ = 0;
  segment_ = segment;
  life_ = segment->life;
  scanner_.emplace(std::move(file), segment->facts.header_bytes);
  decoder_.reset();
  silent_until_ = 0;
  complete_ = segment->facts.start_lsn;
  return {};
}

// Nothing may be missing between what was read and what the next segment begins with.
Result<void> SpoolReader::check_follows(const SegmentFacts& next) const {
  const bool adjacent = segment_ && segment_->facts.number + 1 == next.number;
  if (adjacent && next.start_lsn > complete_) return damage("records are missing at its end");
  if (next.start_lsn <= held_) return {};
  return Error{ErrorCode::kState,
               fmt::format("the spool goes on at {}: the changes after {} up to there are missing",
                           to_string(next.start_lsn), to_string(held_)),
               "compare the tables with the master's and copy anew those that differ"};
}

// A chain that goes on counts on.
Result<void> SpoolReader::check_first_frame(const pb::Frame& frame) const {
  const bool goes_on = sequence_ != 0 && frame.sequence() == sequence_ + 1;
  const bool begins = frame.sequence() == 1;
  if (goes_on || begins || (sequence_ == 0 && !segment_->facts.in_transaction)) return {};
  if (sequence_ == 0 && silent_until_ != 0) return {};
  return damage(fmt::format("frame {} follows frame {}", frame.sequence(), sequence_));
}

void SpoolReader::describe(const pb::SpoolHeader& header) {
  if (header.types_size() == 0 && header.relations_size() == 0) return;
  SpoolBatch batch{std::make_shared<pb::ChangeBatch>(), 0, {}, {}};
  for (const auto& type : header.types()) *batch.changes->add_parts()->mutable_type() = type;
  for (const auto& relation : header.relations()) {
    *batch.changes->add_parts()->mutable_relation() = relation;
  }
  batch.bytes = batch.changes->ByteSizeLong();
  due_ = std::move(batch);
}

Result<std::optional<SpoolEvent>> SpoolReader::take(std::uint64_t readable) {
  ASSIGN_OR_RETURN(const auto scanned, scanner_->next(readable));
  if (scanned == Scanned::kRecord) return take_frame();
  // A new connection may have cut off what was being read.
  ASSIGN_OR_RETURN(const auto now, look());
  if (now.cut_off || now.readable < readable) return std::optional<SpoolEvent>();
  return damage(scanner_->damage());
}

Result<std::optional<SpoolEvent>> SpoolReader::take_frame() {
  const pb::Frame& frame = scanner_->frame();
  if (!decoder_) {
    RETURN_IF_ERROR(check_first_frame(frame));
    decoder_.emplace(spool_.options_.frames, frame.sequence());
  }
  const auto whole = decoder_->decode(frame);
  if (!whole.ok()) return damage(whole.error().message);
  sequence_ = frame.sequence();
  if (is_cut_point(frame)) complete_ = std::max(complete_, MasterLsn{frame.end_lsn()});
  held_ = std::max(held_, complete_);
  if (!*whole || scanner_->offset() <= silent_until_) return std::optional<SpoolEvent>();
  ASSIGN_OR_RETURN(auto event, finish_batch());
  return std::optional<SpoolEvent>(std::move(event));
}

Result<SpoolEvent> SpoolReader::finish_batch() {
  SpoolBatch batch{proto::parse_batch(decoder_->batch()),
                   decoder_->batch().size(),
                   MasterLsn{scanner_->frame().end_lsn()},
                   {segment_->facts.number, scanner_->offset(), life_, held_}};
  if (batch.changes == nullptr) return damage("unreadable batch");
  // A commit counts before the cut point that comes after it: a connection may go on from there.
  for (const auto& part : batch.changes->parts()) {
    if (part.has_commit()) held_ = std::max(held_, MasterLsn{part.commit().end_lsn()});
  }
  return SpoolEvent(std::move(batch));
}

Error SpoolReader::damage(const std::string& why) const {
  return segment_damaged(scanner_->file().path(), scanner_->offset(), why,
                         segment_->facts.start_lsn, spool_.end_of(*segment_));
}

}  // namespace bitacora::transport
