#include "transport/spool_recovery.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "base/check.h"
#include "proto/relation.h"

namespace bitacora::transport {
namespace {

constexpr const char* kDamageHint =
    "restore the file, or empty the whole --data-dir and start again from the master if its slot "
    "still has this range";

Error unusable(const std::string& path, const std::string& why) {
  return {ErrorCode::kState, fmt::format("spool {}: {}", path, why), kDamageHint};
}

class SpoolRecovery {
 public:
  SpoolRecovery(Storage& storage, const std::optional<SyncedMark>& synced,
                const std::optional<pb::Identity>& expected)
      : storage_(storage), synced_(synced), expected_(expected) {}

  Result<RecoveredSpool> run(bool sync) {
    RETURN_IF_ERROR(find_segments());
    RETURN_IF_ERROR(read_headers());
    RETURN_IF_ERROR(find_end());
    RETURN_IF_ERROR(check_synced());
    RETURN_IF_ERROR(change_disk(sync));
    return std::move(found_);
  }

 private:
  Result<void> find_segments();
  Result<void> drop_unmade();
  void keep_last_run();
  Result<bool> read_header(std::uint64_t number);
  Result<void> read_headers();
  Result<void> check_chain() const;
  Result<void> find_end();
  Result<bool> find_cut_point();
  Result<void> check_synced() const;
  Result<void> change_disk(bool sync);
  std::string path_of(std::uint64_t number) const {
    return storage_.path() + "/" + segment_name(number);
  }

  Storage& storage_;
  const std::optional<SyncedMark>& synced_;
  const std::optional<pb::Identity>& expected_;
  std::vector<std::uint64_t> numbers_;   // of one run without a hole, ascending
  std::vector<std::uint64_t> isolated_;  // to be removed, in any order
  std::vector<std::uint64_t> tail_;      // to be removed, in this order: newest first
  std::uint64_t scanned_until_ = 0;      // of the last segment scanned: where it ends or is damaged
  std::string tail_damage_ = "the file ends";
  RecoveredSpool found_;
};

Result<void> SpoolRecovery::find_segments() {
  ASSIGN_OR_RETURN(const auto names, storage_.list());
  for (const auto& name : names) {
    if (const auto number = segment_number(name)) numbers_.push_back(*number);
  }
  std::sort(numbers_.begin(), numbers_.end());
  return {};
}

// A number that is missing: what is older was being removed, and a crash brought it back.
void SpoolRecovery::keep_last_run() {
  auto first = numbers_.end();
  while (first != numbers_.begin()) {
    const bool adjacent = first == numbers_.end() || *std::prev(first) + 1 == *first;
    if (!adjacent) break;
    --first;
  }
  isolated_.insert(isolated_.end(), numbers_.begin(), first);
  numbers_.erase(numbers_.begin(), first);
}

// False: its header is not whole.
Result<bool> SpoolRecovery::read_header(std::uint64_t number) {
  ASSIGN_OR_RETURN(const auto file, storage_.open(segment_name(number)));
  ASSIGN_OR_RETURN(const auto scanned, read_segment_header(*file));
  if (scanned.other_version) {
    return Error{ErrorCode::kState,
                 fmt::format("spool {}: written in another version of the format", file->path()),
                 "run the version of bitacora that wrote it, or let that one apply everything"};
  }
  if (!scanned.damage.empty()) {
    tail_damage_ = scanned.damage;
    return false;
  }
  const pb::SpoolHeader& header = scanned.header;
  if (header.number() != number) {
    return unusable(file->path(), fmt::format("it says that it is segment {}", header.number()));
  }
  if (!found_.identity) found_.identity = header.identity();
  const pb::Identity& ours = expected_ ? *expected_ : *found_.identity;
  if (!proto::same_identity(ours, header.identity())) {
    return Error{ErrorCode::kState,
                 fmt::format("spool {}: it belongs to ({}), {} to ({})", file->path(),
                             proto::describe(header.identity()),
                             expected_ ? "this receiver" : "the others", proto::describe(ours)),
                 "give each receiver its own --data-dir"};
  }
  ASSIGN_OR_RETURN(const auto bytes, file->size());
  found_.timeline = header.timeline();
  found_.segments.push_back({number, MasterLsn{header.start_lsn()}, header.in_transaction(),
                             header.created_usec(), scanned.bytes, bytes});
  return true;
}

// Only the last one may be without a header: it was being made. When it was to begin the spool
// anew, the last one before it need not have been synced either.
Result<void> SpoolRecovery::drop_unmade() {
  while (!numbers_.empty()) {
    const auto last = numbers_.back();
    if (!tail_.empty() && tail_.back() == last + 1) break;
    ASSIGN_OR_RETURN(const bool whole, read_header(last));
    found_ = {};
    if (whole) break;
    tail_.push_back(last);
    numbers_.pop_back();
  }
  return {};
}

Result<void> SpoolRecovery::read_headers() {
  RETURN_IF_ERROR(drop_unmade());
  keep_last_run();
  for (const auto number : numbers_) {
    ASSIGN_OR_RETURN(const bool whole, read_header(number));
    if (whole) continue;
    const auto& before = found_.segments;
    return segment_damaged(path_of(number), 0, tail_damage_,
                           before.empty() ? MasterLsn{} : before.back().start_lsn, MasterLsn{});
  }
  RETURN_IF_ERROR(check_chain());
  auto& segments = found_.segments;
  const auto first = std::find_if(segments.begin(), segments.end(),
                                  [](const SegmentFacts& s) { return !s.in_transaction; });
  if (first == segments.end() && !segments.empty()) {
    return segment_damaged(path_of(segments.front().number - 1), 0, "the file is missing",
                           MasterLsn{}, segments.front().start_lsn);
  }
  // The end of a transaction whose beginning was removed.
  for (auto at = segments.begin(); at != first; ++at) isolated_.push_back(at->number);
  segments.erase(segments.begin(), first);
  return {};
}

Result<void> SpoolRecovery::check_chain() const {
  for (std::size_t i = 1; i < found_.segments.size(); ++i) {
    const SegmentFacts& before = found_.segments[i - 1];
    const SegmentFacts& segment = found_.segments[i];
    if (before.start_lsn <= segment.start_lsn) continue;
    return unusable(path_of(segment.number),
                    fmt::format("it begins at {}, before {} of the segment before it",
                                to_string(segment.start_lsn), to_string(before.start_lsn)));
  }
  return {};
}

Result<void> SpoolRecovery::find_end() {
  while (!found_.segments.empty()) {
    ASSIGN_OR_RETURN(const bool found, find_cut_point());
    if (found) return {};
    tail_.push_back(found_.segments.back().number);
    found_.segments.pop_back();
    // The first one begins outside transactions, and that is a place to cut.
    CHECK(!found_.segments.empty());
  }
  return {};
}

// Scans the last segment. False: it lies inside one transaction as a whole.
Result<bool> SpoolRecovery::find_cut_point() {
  const SegmentFacts& last = found_.segments.back();
  ASSIGN_OR_RETURN(const auto file, storage_.open(segment_name(last.number)));
  SegmentScanner scanner(file, last.header_bytes);
  MasterLsn reached = last.start_lsn;
  found_.end = {last.number, last.in_transaction ? 0 : last.header_bytes, reached};
  while (true) {
    ASSIGN_OR_RETURN(const auto scanned, scanner.next(last.bytes));
    if (scanned != Scanned::kRecord) {
      if (scanned == Scanned::kDamaged) tail_damage_ = scanner.damage();
      break;
    }
    if (!is_cut_point(scanner.frame())) continue;
    reached = std::max(reached, MasterLsn{scanner.frame().end_lsn()});
    found_.end = {last.number, scanner.offset(), reached};
  }
  scanned_until_ = scanner.offset();
  // A segment is synced before the next one is made: it has no torn tail.
  if (last.number != numbers_.back() && scanned_until_ != last.bytes) {
    return segment_damaged(file->path(), scanned_until_, tail_damage_, reached, MasterLsn{});
  }
  return found_.end.bytes != 0;
}

// A crash may take what was not synced, never what was.
Result<void> SpoolRecovery::check_synced() const {
  if (!synced_) return {};
  const auto& segments = found_.segments;
  if (segments.empty()) {
    return segment_damaged(path_of(synced_->segment), 0, "the file is missing", MasterLsn{},
                           synced_->lsn);
  }
  if (synced_->segment < segments.front().number) return {};  // removed since, on purpose
  const SyncedMark& end = found_.end;
  if (std::pair(end.segment, end.bytes) < std::pair(synced_->segment, synced_->bytes)) {
    return segment_damaged(path_of(end.segment), scanned_until_, tail_damage_, end.lsn,
                           synced_->lsn);
  }
  const SegmentFacts& marked = segments[synced_->segment - segments.front().number];
  if (marked.bytes >= synced_->bytes) return {};
  return segment_damaged(path_of(marked.number), marked.bytes, "the file ends", marked.start_lsn,
                         synced_->lsn);
}

// In an order in which a crash at any point leaves what the next recovery takes as the same.
Result<void> SpoolRecovery::change_disk(bool sync) {
  for (const auto number : tail_) {
    RETURN_IF_ERROR(storage_.remove(segment_name(number)));
    if (sync) RETURN_IF_ERROR(storage_.sync_directory());
  }
  if (!found_.segments.empty()) {
    SegmentFacts& last = found_.segments.back();
    ASSIGN_OR_RETURN(const auto file, storage_.open(segment_name(last.number)));
    if (last.bytes != found_.end.bytes) RETURN_IF_ERROR(file->truncate(found_.end.bytes));
    last.bytes = found_.end.bytes;
    // A process that was killed leaves content that only the system's memory holds.
    if (sync) RETURN_IF_ERROR(file->sync());
  }
  for (const auto number : isolated_) RETURN_IF_ERROR(storage_.remove(segment_name(number)));
  if (sync) RETURN_IF_ERROR(storage_.sync_directory());
  return {};
}

}  // namespace

Result<RecoveredSpool> recover_spool(Storage& storage, const std::optional<SyncedMark>& synced,
                                     const std::optional<pb::Identity>& expected, bool sync) {
  return SpoolRecovery(storage, synced, expected).run(sync);
}

Error segment_damaged(const std::string& path, std::uint64_t offset, const std::string& why,
                      MasterLsn missing_after, MasterLsn missing_until) {
  const auto until = missing_until.valid() ? to_string(missing_until) : "its end";
  return {ErrorCode::kState,
          fmt::format("spool {} is damaged at offset {} ({}): the changes after {} up to {} are "
                      "missing",
                      path, offset, why, to_string(missing_after), until),
          kDamageHint};
}

}  // namespace bitacora::transport
