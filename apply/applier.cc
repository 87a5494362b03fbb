#include "apply/applier.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "proto/relation.h"

namespace bitacora::apply {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kIdleProgressInterval{
    100};  // an idle master moves the progress row so often
// Where the standby is a master too, writing the row gives that one's receivers an idle position to
// write, and so on for ever where they are ours: less and less often while nothing else happens.
constexpr std::chrono::seconds kIdlePatienceMax{10};
constexpr std::chrono::milliseconds kPositionInterval{
    50};  // between two questions for the flushed WAL
constexpr std::chrono::seconds kDurableOverdue{1};

bool ends_complete(const pb::ChangeBatch& batch) {
  if (batch.parts().empty()) return false;
  const auto& last = batch.parts(batch.parts_size() - 1);
  return last.has_commit() || last.has_idle_position();
}

Error truncates_others(const MappedTable& table) {
  return {ErrorCode::kStandby,
          fmt::format("TRUNCATE of {} on the master: {} of the standby has rows of others too, and "
                      "nothing tells whose a row is",
                      proto::qualified_name(table.source), proto::qualified_name(table.relation)),
          "give its [table.'...'] section constants that tell its rows from the others', or have "
          "the sender leave out truncate in operations"};
}

std::uint64_t rows_in(const pb::ChangeBatch& batch) {
  std::uint64_t rows = 0;
  for (const auto& part : batch.parts()) rows += part.has_rows() ? part.rows().count() : 0;
  return rows;
}

}  // namespace

Applier::Applier(StandbySession& session, TableMap& tables, ApplierOptions options, MasterLsn from,
                 std::span<StandbySession> others)
    : tables_(tables),
      options_(std::move(options)),
      durability_(from),
      applied_(from),
      written_(from),
      position_(from),
      progressed_at_(Clock::now()),
      transacted_at_(progressed_at_) {
  writers_.push_back(std::make_unique<GroupWriter>(session, options_));
  for (auto& other : others) writers_.push_back(std::make_unique<GroupWriter>(other, options_));
}

Result<void> Applier::start() {
  const bool alone = writers_.size() == 1;
  for (std::size_t i = 0; i < writers_.size(); ++i)
    RETURN_IF_ERROR(writers_[i]->start(alone ? 0 : i + 1));
  if (!alone) workers_.emplace(writers_, options_.on_group_end);
  return {};
}

void Applier::cancel() {
  for (const auto& writer : writers_) writer->cancel();
}

Result<void> Applier::take(const Batch& batch, bool more_waiting) {
  auto taken = take_in(batch, more_waiting);
  if (taken.ok() || refusal_) return taken;
  // What is in flight came before it.
  RETURN_IF_ERROR(finish_all());
  if (!taken.error().heals()) refusal_ = writer().refusal(begun_, false);
  return taken;
}

Result<void> Applier::take_in(const Batch& batch, bool more_waiting) {
  RETURN_IF_ERROR(finish_ended());
  one_trip_ = options_.path != ApplyPath::kFast && !group_open_ && !more_waiting &&
              ends_complete(*batch) && rows_in(*batch) <= options_.one_trip_rows_max;
  // A transaction whose end is not here yet must not hold back those before it.
  int last_commit = batch->parts_size() - 1;
  while (last_commit >= 0 && !batch->parts(last_commit).has_commit()) --last_commit;
  for (int i = 0; i < batch->parts_size(); ++i) {
    const auto& part = batch->parts(i);
    if (part.has_begin() && i > last_commit && group_open_) RETURN_IF_ERROR(commit_group());
    RETURN_IF_ERROR(apply(batch, part));
  }
  if (group_open_ && !in_transaction_ && !more_waiting) RETURN_IF_ERROR(commit_group());
  return {};
}

Result<void> Applier::apply(const Batch& batch, const pb::Part& part) {
  switch (part.kind_case()) {
    case pb::Part::kBegin:
      return begin(part.begin());
    case pb::Part::kCommit:
      return end(part.commit());
    case pb::Part::kRelation:
      return describe(part.relation());
    case pb::Part::kType:
      tables_.describe(part.type());
      return {};
    case pb::Part::kRows:
      return passes_over() ? Result<void>{} : apply_rows(batch, part.rows());
    case pb::Part::kTruncate:
      return passes_over() ? Result<void>{} : truncate(part.truncate());
    case pb::Part::kSubtransaction:
      rolled_back_ = rolled_back_xids_.contains(part.subtransaction());
      return {};
    case pb::Part::kIdlePosition:
      return idle(part.idle_position());
    case pb::Part::KIND_NOT_SET:
      break;
  }
  return Error{ErrorCode::kNetwork, "a batch holds a part of a kind this version does not know",
               "run the same version of bitacora on both sides"};
}

// Inside of a transaction: what was being passed over has left the spool before its end was read.
Result<void> Applier::idle(const pb::IdlePosition& idle) {
  if (in_transaction_) {
    return Error{ErrorCode::kNetwork, "a transaction has no end", {}, Recovery::kRetry};
  }
  const MasterLsn reached{idle.lsn()};
  // Nothing is applied past `until`, and the row says no more than was.
  position_ =
      std::max(position_, options_.until.valid() ? std::min(reached, options_.until) : reached);
  return {};
}

// What is held back or in flight was meant for the table as it was described before.
Result<void> Applier::describe(const pb::Relation& relation) {
  if (tables_.knows(relation)) return {};
  const bool holds_rows = group_open_ && !(collecting_ && group_.rows.empty());
  RETURN_IF_ERROR(holds_rows ? write_directly() : finish_all());
  if (holds_rows) RETURN_IF_ERROR(writer().settle());
  tables_.describe(relation);
  return {};
}

Result<void> Applier::begin(const pb::Begin& begin) {
  if (in_transaction_) {
    return Error{
        ErrorCode::kNetwork, "a transaction began inside another one", {}, Recovery::kRetry};
  }
  begun_ = MasterLsn{begin.commit_lsn()};
  const bool exact_before = std::exchange(exact_only_, begun_ <= options_.exact_through);
  // So that an error is told apart: it is either's own.
  if (exact_before && !exact_only_ && group_open_) RETURN_IF_ERROR(commit_group());
  in_transaction_ = true;
  rolled_back_ = false;
  rolled_back_xids_.clear();
  rolled_back_xids_.insert(begin.aborted().begin(), begin.aborted().end());
  commit_time_usec_ = begin.commit_time_usec();
  // A master that crashed may send again what was confirmed, and so may a sender that serves
  // somebody further behind.
  skipping_ = begun_ < position_ || (options_.until.valid() && begun_ >= options_.until);
  return skipping_ ? Result<void>{} : open_group();
}

Result<void> Applier::end(const pb::Commit& commit) {
  if (!in_transaction_)
    return Error{
        ErrorCode::kNetwork, "a transaction ended without a beginning", {}, Recovery::kRetry};
  in_transaction_ = false;
  if (std::exchange(skipping_, false)) return {};
  if (MasterLsn{commit.end_lsn()} <= position_) {
    return Error{ErrorCode::kNetwork,
                 "a transaction ended before the end of the one before",
                 {},
                 Recovery::kRetry};
  }
  position_ = MasterLsn{commit.end_lsn()};
  ++group_.transactions;
  return group_is_full() ? commit_group() : Result<void>{};
}

bool Applier::group_is_full() const {
  const auto rows_max = workers_ ? std::min(options_.group_rows_max, options_.parallel.rows_max)
                                 : options_.group_rows_max;
  return group_.row_count >= rows_max || group_.bytes >= options_.parallel.bytes_max ||
         Clock::now() - group_opened_at_ >= options_.group_time_max;
}

// A small transaction on an idle pair is written here: another thread would only be later. So is
// what the exact path is to judge.
Result<void> Applier::open_group() {
  if (group_open_) return {};
  group_open_ = true;
  group_opened_at_ = Clock::now();
  group_ = {};
  collecting_ = workers_ && !exact_only_ && !(one_trip_ && workers_->all_finished());
  if (collecting_) return {};
  RETURN_IF_ERROR(finish_all());
  return writer().begin({one_trip_, exact_only_});
}

// The open group is written by itself from here on.
Result<void> Applier::write_directly() {
  if (!std::exchange(collecting_, false)) return {};
  RETURN_IF_ERROR(finish_all());
  one_trip_ = false;
  RETURN_IF_ERROR(writer().begin({one_trip_, exact_only_}));
  for (const auto& rows : std::exchange(group_.rows, {})) RETURN_IF_ERROR(writer().write(rows));
  return {};
}

Result<void> Applier::apply_rows(const Batch& batch, const pb::Rows& block) {
  if (!in_transaction_)
    return Error{ErrorCode::kNetwork, "rows came outside a transaction", {}, Recovery::kRetry};
  ASSIGN_OR_RETURN(const MappedTable* table, tables_.table(block.relation_oid()));
  if (!takes(*table)) return {};
  group_.row_count += block.count();
  GroupRows rows{{begun_, commit_time_usec_}, batch, table, &block};
  if (table->shaper) {
    ASSIGN_OR_RETURN(rows.batch, table->shaper->shape(block));
    rows.block = &rows.batch->parts(0).rows();
  }
  const bool alone = table->plan.reach == Reach::kEverything || writer().careful(*table, begun_);
  if (collecting_ && alone) RETURN_IF_ERROR(write_directly());
  return collecting_ ? collect(rows) : writer().write(rows);
}

Result<void> Applier::collect(const GroupRows& rows) {
  RETURN_IF_ERROR(group_.footprint.add(rows.table->plan, *rows.block));
  group_.rows.push_back(rows);
  group_.bytes += rows.block->tuples().size();
  const bool too_large = group_.bytes >= options_.parallel.collected_bytes_max ||
                         group_.row_count >= options_.parallel.collected_rows_max;
  return too_large ? write_directly() : Result<void>{};
}

Result<void> Applier::truncate(const pb::Truncate& truncate) {
  Truncation truncation{.plans = {}, .restart_identity = truncate.restart_identity()};
  for (const auto oid : truncate.relation_oids()) {
    ASSIGN_OR_RETURN(const MappedTable* table, tables_.table(oid));
    if (!takes(*table)) {
      truncation.partial |= table->wanted;
      continue;
    }
    if (table->plan.mingled) return truncates_others(*table);
    truncation.plans.push_back(&table->plan);
  }
  if (truncation.plans.empty()) return {};
  ASSIGN_OR_RETURN(truncation.roots, tables_.roots_of(truncation.plans));
  RETURN_IF_ERROR(write_directly());
  ++group_.row_count;
  return writer().truncate(truncation);
}

Result<void> Applier::commit_group() {
  group_open_ = false;
  group_.begun = begun_;
  group_.from = std::exchange(written_, position_);
  group_.to = position_;
  group_.commit_time_usec = commit_time_usec_;
  if (collecting_) return hand_over();
  RETURN_IF_ERROR(writer().commit({group_.from, group_.to, group_.commit_time_usec}));
  counts_.conflicts = writer().conflicts();  // no other one resolves any
  asked_at_ = Clock::now();
  on_commit(group_, writer().position());
  return {};
}

Result<void> Applier::hand_over() {
  group_.one_trip =
      options_.path != ApplyPath::kFast && group_.row_count <= options_.one_trip_rows_max;
  while (workers_->all_busy()) RETURN_IF_ERROR(finish_oldest());
  workers_->begin(std::move(group_));
  return {};
}

Result<void> Applier::finish_oldest() {
  auto finished = workers_->finish_oldest();
  if (finished.written.ok()) {
    asked_at_ = Clock::now();
    on_commit(finished.group, finished.position);
    return {};
  }
  workers_->give_up();
  refusal_ = finished.refusal;
  return finished.written;
}

Result<void> Applier::finish_ended() {
  while (workers_ && workers_->oldest_ended()) RETURN_IF_ERROR(finish_oldest());
  return {};
}

Result<void> Applier::finish_all() {
  while (in_flight()) RETURN_IF_ERROR(finish_oldest());
  return {};
}

void Applier::on_commit(const Group& group, const WalPosition& position) {
  applied_ = group.to;
  progressed_at_ = Clock::now();
  if (group.transactions > 0) transacted_at_ = progressed_at_;
  counts_.transactions += group.transactions;
  counts_.rows += group.row_count;
  counts_.commit_time_usec = group.commit_time_usec;
  note(position);
}

void Applier::note(const WalPosition& position) {
  durability_.on_commit(applied_, position.inserted);
  durability_.on_flush(position.flushed);
}

Result<void> Applier::ask_position() {
  RETURN_IF_ERROR(writer().ask_position());
  asked_at_ = Clock::now();
  note(writer().position());
  return {};
}

bool Applier::idle_due() const {
  return !group_open_ && !in_transaction_ && !in_flight() && position_ > applied_;
}

Result<Clock::duration> Applier::idle_interval(Clock::time_point now) {
  const Clock::duration quiet = now - transacted_at_;
  if (quiet < kIdleProgressInterval) return Clock::duration(kIdleProgressInterval);
  if (now - looked_at_ >= kIdlePatienceMax) {
    looked_at_ = now;
    ASSIGN_OR_RETURN(idle_patience_, writer().is_a_master_too());
  }
  return idle_patience_ ? std::min<Clock::duration>(quiet, kIdlePatienceMax)
                        : Clock::duration(kIdleProgressInterval);
}

Result<void> Applier::rewrite_progress() {
  one_trip_ = true;
  RETURN_IF_ERROR(open_group());
  return commit_group();
}

// A full spool takes the rest of a transaction when all before it is known to be durable.
Result<void> Applier::ask_inside_transaction(Clock::time_point now) {
  if (!durability_.pending() || now - asked_at_ < kDurableOverdue) return {};
  if (group_open_ && !collecting_) RETURN_IF_ERROR(writer().settle());
  return ask_position();
}

Result<void> Applier::tick() {
  RETURN_IF_ERROR(finish_ended());
  if (in_flight()) return {};
  const auto now = Clock::now();
  if (group_open_ || in_transaction_) return ask_inside_transaction(now);
  if (idle_due() && now - progressed_at_ >= kIdleProgressInterval) {
    ASSIGN_OR_RETURN(const auto interval, idle_interval(now));
    if (now - progressed_at_ >= interval) return rewrite_progress();
  }
  if (!durability_.pending()) return {};
  // The insert position after a commit that filled a WAL page counts the next page's header, which
  // is flushed with the next record only. On a quiet standby that record has to be ours.
  if (now - progressed_at_ >= kDurableOverdue) return rewrite_progress();
  return now - asked_at_ >= kPositionInterval ? ask_position() : Result<void>{};
}

}  // namespace bitacora::apply
