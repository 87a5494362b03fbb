#include "transport/spool.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/check.h"
#include "base/fault_point.h"
#include "proto/relation.h"
#include "transport/spool_reader.h"

namespace bitacora::transport {

Result<std::unique_ptr<Spool>> Spool::open(std::unique_ptr<Storage> storage, SpoolOptions options,
                                           const std::optional<SyncedMark>& synced) {
  ASSIGN_OR_RETURN(auto recovered, recover_spool(*storage, synced, options.identity, options.sync));
  return std::unique_ptr<Spool>(
      new Spool(std::move(storage), std::move(options), std::move(recovered)));
}

Spool::Spool(std::unique_ptr<Storage> storage, SpoolOptions options, RecoveredSpool recovered)
    : storage_(std::move(storage)),
      options_(std::move(options)),
      identity_(std::move(recovered.identity)),
      timeline_(recovered.timeline),
      end_(recovered.end),
      synced_(recovered.end),
      streamed_(*storage_) {
  for (const auto& facts : recovered.segments) {
    segments_.push_back(std::make_shared<Segment>(Segment{facts, next_life_++}));
    bytes_ += facts.bytes;
    next_number_ = facts.number + 1;
  }
}

std::optional<pb::Identity> Spool::identity() const {
  const std::lock_guard lock(mutex_);
  return identity_;
}

MasterLsn Spool::begin_lsn() const {
  const std::lock_guard lock(mutex_);
  return segments_.empty() ? end_.lsn : segments_.front()->facts.start_lsn;
}

MasterLsn Spool::end_lsn() const {
  const std::lock_guard lock(mutex_);
  return end_.lsn;
}

std::uint32_t Spool::timeline() const {
  const std::lock_guard lock(mutex_);
  return timeline_;
}

std::uint64_t Spool::bytes() const {
  const std::lock_guard lock(mutex_);
  return bytes_ + streamed_.bytes();
}

MasterLsn Spool::synced_lsn() const {
  const std::lock_guard lock(mutex_);
  return synced_.lsn;
}

std::optional<SyncedMark> Spool::synced_mark() const {
  const std::lock_guard lock(mutex_);
  if (synced_.segment == 0) return std::nullopt;
  return synced_;
}

Result<void> Spool::usable() const {
  if (!broken_) return {};
  Error error = *broken_;
  error.message = "the spool failed before: " + error.message;
  error.recovery = Recovery::kRetry;
  return error;
}

Result<void> Spool::begin_connection(const pb::Identity& identity, MasterLsn start_lsn,
                                     std::uint32_t timeline) {
  const std::lock_guard lock(mutex_);
  RETURN_IF_ERROR(usable());
  if (identity_ && !proto::same_identity(*identity_, identity)) {
    return Error{ErrorCode::kState,
                 fmt::format("the spool {} belongs to {}, the sender ships {}", storage_->path(),
                             proto::describe(*identity_), proto::describe(identity)),
                 "give each stream its own directory"};
  }
  RETURN_IF_ERROR(noting_failure(streamed_.drop_all()));
  if (segments_.empty() || start_lsn != end_.lsn) {
    begin_anew(start_lsn);
  } else {
    RETURN_IF_ERROR(noting_failure(cut_back(end_)));
  }
  identity_ = identity;
  timeline_ = timeline;
  relations_.clear();
  types_.clear();
  connected_ = true;
  segment_due_ = true;
  batch_open_ = false;
  in_transaction_ = false;
  return {};
}

// The old segments stay on disk until the first one of the new beginning is durable: a crash leaves
// the one or the other. The number left out tells the next recovery that they are not its
// beginning.
void Spool::begin_anew(MasterLsn start_lsn) {
  if (!segments_.empty()) next_number_ = segments_.back()->facts.number + 2;
  for (const auto& segment : segments_) {
    doomed_.push_back(segment->facts.number);
    cut_off(*segment, 0);
  }
  segments_.clear();
  file_ = nullptr;
  begun_ = start_lsn;
  end_ = {0, 0, start_lsn};
  synced_ = {0, 0, std::min(synced_.lsn, start_lsn)};  // until then the disk may say the old end
  synced_changes_ = changes_;
  ++beginnings_;
}

void Spool::cut_off(Segment& segment, std::uint64_t bytes) {
  bytes_ -= segment.facts.bytes - bytes;
  segment.facts.bytes = bytes;
}

// Removes what lies behind `end`. Newest first and one by one: what a crash leaves has no hole.
Result<void> Spool::cut_back(const SyncedMark& end) {
  ++beginnings_;
  if (needed_from_ > end.segment) needed_from_ = 0;  // trim() finds it again
  while (!segments_.empty() && segments_.back()->facts.number > end.segment) {
    const auto segment = segments_.back();
    cut_off(*segment, 0);
    segments_.pop_back();
    next_number_ = segment->facts.number;
    file_ = nullptr;
    RETURN_IF_ERROR(storage_->remove(segment_name(segment->facts.number)));
    if (options_.sync) RETURN_IF_ERROR(storage_->sync_directory());
  }
  if (segments_.empty()) return {};
  Segment& last = *segments_.back();
  CHECK(last.facts.number == end.segment);
  if (last.facts.bytes == end.bytes && file_) return {};
  ASSIGN_OR_RETURN(file_, storage_->open(segment_name(end.segment)));
  RETURN_IF_ERROR(file_->truncate(end.bytes));
  ++changes_;
  cut_off(last, end.bytes);
  return {};
}

void Spool::describe(const pb::Relation& relation) {
  const std::lock_guard lock(mutex_);
  relations_[relation.oid()] = relation;
}

void Spool::describe(const pb::Type& type) {
  const std::lock_guard lock(mutex_);
  types_[type.oid()] = type;
}

Result<MasterLsn> Spool::sync() {
  const std::lock_guard syncing(sync_mutex_);
  std::unique_lock lock(mutex_);
  RETURN_IF_ERROR(usable());
  if (synced_changes_ == changes_) return synced_.lsn;
  const auto file = file_;
  const auto target = end_;
  const auto changes = changes_;
  const auto beginnings = beginnings_;
  lock.unlock();
  fault_point("spool.before_sync");
  const auto synced = options_.sync && file ? file->sync() : Result<void>{};
  fault_point("spool.after_sync");
  lock.lock();
  RETURN_IF_ERROR(noting_failure(synced));
  // What was cut off or removed meanwhile is not what was made durable.
  if (beginnings == beginnings_) {
    synced_ = target;
    synced_changes_ = changes;
  }
  return synced_.lsn;
}

Result<void> Spool::trim(MasterLsn durable_applied, std::int64_t now_usec) {
  std::vector<std::uint64_t> removed;
  {
    const std::lock_guard lock(mutex_);
    RETURN_IF_ERROR(usable());
    note_applied(durable_applied);
    std::uint64_t kept_bytes = 0;
    for (const auto& segment : segments_) {
      if (only_kept(*segment)) kept_bytes += segment->facts.bytes;
    }
    const auto keep_usec = std::chrono::microseconds(options_.keep_time).count();
    while (!segments_.empty() && only_kept(*segments_.front())) {
      // A segment is as old as its last record, about when the next one was made.
      const bool old = segments_[1]->facts.created_usec <= now_usec - keep_usec;
      if (!old && kept_bytes <= options_.keep_bytes) break;
      for (const auto& dropped : drop_oldest()) {
        kept_bytes -= dropped.bytes;
        removed.push_back(dropped.number);
      }
    }
  }
  for (const auto number : removed) {
    fault_point("segment.before_remove");
    RETURN_IF_ERROR(storage_->remove(segment_name(number)));
    fault_point("segment.after_remove");
  }
  return {};
}

// It may lie before the last one: the standby was restored from a backup. What is not durable does
// not replace what came before.
void Spool::note_applied(MasterLsn durable_applied) {
  applied_ = durable_applied;
  needed_from_ = 0;
  for (const auto& segment : segments_) {
    const auto& facts = segment->facts;
    if (facts.number > synced_.segment) break;
    if (!facts.in_transaction && facts.start_lsn <= applied_) needed_from_ = facts.number;
  }
}

bool Spool::only_kept(const Segment& segment) const { return segment.facts.number < needed_from_; }

// With those that go on with a transaction it began: nobody can begin there, and the spool would
// seem to reach further back than it does. Readers that are in one go on: what they hold open stays
// readable.
std::vector<SegmentFacts> Spool::drop_oldest() {
  std::vector<SegmentFacts> dropped;
  do {
    dropped.push_back(segments_.front()->facts);
    bytes_ -= dropped.back().bytes;
    segments_.pop_front();
  } while (segments_.front()->facts.in_transaction);
  return dropped;
}

Result<void> Spool::reopen() {
  const std::lock_guard syncing(sync_mutex_);
  const std::lock_guard lock(mutex_);
  if (!broken_) return {};
  connected_ = false;
  file_ = nullptr;  // a new descriptor sees failures anew
  RETURN_IF_ERROR(noting_failure(remove_leftovers()));
  RETURN_IF_ERROR(noting_failure(cut_back(synced_)));
  if (options_.sync && file_) RETURN_IF_ERROR(noting_failure(file_->sync()));
  synced_changes_ = changes_;
  end_ = segments_.empty() ? SyncedMark{0, 0, begun_} : synced_;
  broken_.reset();
  return {};
}

bool Spool::broken() const {
  const std::lock_guard lock(mutex_);
  return broken_.has_value();
}

// What a failure left half made or half removed behind the last segment, newest first.
Result<void> Spool::remove_leftovers() {
  ASSIGN_OR_RETURN(auto names, storage_->list());
  std::sort(names.rbegin(), names.rend());
  for (const auto& name : names) {
    if (segment_number(name).value_or(0) < next_number_) continue;
    RETURN_IF_ERROR(storage_->remove(name));
    if (options_.sync) RETURN_IF_ERROR(storage_->sync_directory());
  }
  return {};
}

Result<std::unique_ptr<SpoolReader>> Spool::read_from(MasterLsn position) {
  const std::lock_guard lock(mutex_);
  RETURN_IF_ERROR(usable());
  const auto begin = segments_.empty() ? end_.lsn : segments_.front()->facts.start_lsn;
  if (position < begin) {
    return Error{ErrorCode::kState,
                 fmt::format("the spool {} begins at {}: the changes after {} up to there are "
                             "missing",
                             storage_->path(), to_string(begin), to_string(position)),
                 "compare the tables with the master's and copy anew those that differ"};
  }
  if (position < applied_) note_applied(position);
  SharedSegment first;
  for (const auto& segment : segments_) {
    const auto& facts = segment->facts;
    if (!facts.in_transaction && facts.start_lsn <= position) first = segment;
  }
  return reader_at(first, position, 0);
}

Result<std::unique_ptr<SpoolReader>> Spool::read_after(const SpoolPlace& place) {
  const std::lock_guard lock(mutex_);
  RETURN_IF_ERROR(usable());
  for (const auto& segment : segments_) {
    if (segment->life == place.life) return reader_at(segment, place.reached, place.bytes);
  }
  ASSIGN_OR_RETURN(auto reader, reader_at(nullptr, place.reached, 0));
  reader->life_ = place.life;
  reader->abandon();
  return reader;
}

Result<std::unique_ptr<SpoolReader>> Spool::reader_at(const SharedSegment& segment, MasterLsn held,
                                                      std::uint64_t silent_until) const {
  std::unique_ptr<SpoolReader> reader(new SpoolReader(*this, std::max(held, applied_)));
  if (!segment) return reader;
  if (silent_until != 0) reader->life_ = segment->life;  // what came before is known: not described
  ASSIGN_OR_RETURN(auto file, storage_->open(segment_name(segment->facts.number)));
  RETURN_IF_ERROR(reader->enter(segment, std::move(file)));
  reader->silent_until_ = silent_until;
  return reader;
}

Result<Spool::Outlook> Spool::look(const SharedSegment& segment, std::uint64_t life,
                                   std::uint64_t offset, std::uint64_t consumed) const {
  const std::lock_guard lock(mutex_);
  RETURN_IF_ERROR(usable());
  if (segment && consumed > segment->facts.bytes) return Outlook{0, true, nullptr, nullptr};
  if (segment && offset < segment->facts.bytes)
    return Outlook{segment->facts.bytes, false, nullptr, nullptr};
  const auto next = std::upper_bound(
      segments_.begin(), segments_.end(), life,
      [](std::uint64_t value, const SharedSegment& other) { return value < other->life; });
  if (next == segments_.end()) return Outlook{};
  ASSIGN_OR_RETURN(auto file, storage_->open(segment_name((*next)->facts.number)));
  return Outlook{0, false, *next, std::move(file)};
}

// For messages: up to where the changes in a segment reach.
MasterLsn Spool::end_of(const Segment& segment) const {
  const std::lock_guard lock(mutex_);
  for (const auto& other : segments_) {
    if (other->life > segment.life) return other->facts.start_lsn;
  }
  return end_.lsn;
}

}  // namespace bitacora::transport
