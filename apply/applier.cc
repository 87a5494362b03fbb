#include "apply/applier.h"

#include <algorithm>
#include <array>
#include <cstring>

#include <fmt/format.h>

#include "apply/progress.h"
#include "base/bytes.h"
#include "proto/relation.h"

namespace bitacora::apply {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kIdleProgressInterval{
    100};  // an idle master moves the progress row so often
constexpr std::chrono::milliseconds kPositionInterval{
    50};  // between two questions for the flushed WAL
constexpr std::chrono::seconds kDurableOverdue{1};
constexpr std::int64_t kPostgresEpochUsec = 946'684'800'000'000;
constexpr Oid kInt2VectorOid = 22;
constexpr Oid kTextOid = 25;
constexpr Oid kOidVectorOid = 30;
constexpr Oid kTimestamptzOid = 1184;
constexpr Oid kPgLsnOid = 3220;
constexpr Oid kTsqueryOid = 3615;

constexpr const char* kBegin = "bitacora_begin";
constexpr const char* kCommit = "bitacora_commit";
constexpr const char* kProgress = "bitacora_progress";
constexpr const char* kPosition = "bitacora_position";

bool ends_complete(const pb::ChangeBatch& batch) {
  if (batch.parts().empty()) return false;
  const auto& last = batch.parts(batch.parts_size() - 1);
  return last.has_commit() || last.has_idle_position();
}

std::uint64_t rows_in(const pb::ChangeBatch& batch) {
  std::uint64_t rows = 0;
  for (const auto& part : batch.parts()) rows += part.has_rows() ? part.rows().count() : 0;
  return rows;
}

// The server sends these types in binary also when they are empty, and does not take that back
// ("malformed tsquery", "invalid int2vector data"). As text they are the empty string.
bool unreadable_when_empty(const ColumnPlan& column, std::string_view bytes) {
  constexpr std::size_t kCountBytes = 4;
  constexpr std::size_t kArrayHeaderBytes = 20;  // of one dimension
  switch (column.binary_oid) {
    case kTsqueryOid:
      return bytes.size() <= kCountBytes;
    case kInt2VectorOid:
    case kOidVectorOid:
      return bytes.size() <= kArrayHeaderBytes;
    default:
      return false;
  }
}

// Without a key only the whole old row finds a row; anything less could find another one.
Result<void> check_identified(const MappedTable& table, pb::RowOperation operation) {
  const bool full = table.relation.replica_identity() == pb::REPLICA_IDENTITY_FULL;
  if (operation == pb::INSERT || !table.plan.locator.empty()) return {};
  if (full && proto::has_old_tuple(operation)) return {};
  return Error{ErrorCode::kMaster,
               fmt::format("{}: the master sends changes without the key that identifies the row",
                           proto::qualified_name(table.relation)),
               "a generated column of the key is not sent: run on the master ALTER TABLE ... "
               "REPLICA IDENTITY FULL, or USING INDEX over ordinary columns"};
}

}  // namespace

Applier::Applier(StandbySession& session, TableMap& tables, ApplierOptions options, MasterLsn from)
    : session_(session),
      tables_(tables),
      options_(std::move(options)),
      pipeline_(session.connection(), [this](const PGresult* reply) { return on_reply(reply); }),
      durability_(from),
      applied_(from),
      position_(from),
      progressed_at_(Clock::now()) {}

Result<void> Applier::start() {
  struct Statement {
    const char* name;
    std::string sql;
    std::vector<Oid> types;
  };
  for (const auto& statement :
       {Statement{kBegin, "BEGIN", {}}, Statement{kCommit, "COMMIT", {}},
        Statement{
            kProgress, advance_progress_sql(), {kTextOid, kPgLsnOid, kTimestamptzOid, kPgLsnOid}},
        Statement{
            kPosition, "SELECT pg_current_wal_insert_lsn(), pg_current_wal_flush_lsn()", {}}}) {
    expected_.push_back({Sent::kPrepare});
    RETURN_IF_ERROR(pipeline_.prepare(statement.name, statement.sql, statement.types));
  }
  expected_.push_back({Sent::kSync});
  RETURN_IF_ERROR(pipeline_.sync());
  return pipeline_.finish();
}

Result<void> Applier::take(const Batch& batch, bool more_waiting) {
  one_trip_ = !group_open_ && !more_waiting && ends_complete(*batch) &&
              rows_in(*batch) <= options_.one_trip_rows_max;
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
      tables_.describe(part.relation());
      return {};
    case pb::Part::kType:
      tables_.describe(part.type());
      return {};
    case pb::Part::kRows:
      return skipping_ ? Result<void>{} : apply_rows(batch, part.rows());
    case pb::Part::kTruncate:
      return skipping_ ? Result<void>{} : truncate(part.truncate());
    case pb::Part::kIdlePosition:
      position_ = std::max(position_, MasterLsn{part.idle_position().lsn()});
      return {};
    case pb::Part::KIND_NOT_SET:
      break;
  }
  return Error{ErrorCode::kNetwork, "a batch holds a part of a kind this version does not know",
               "run the same version of bitacora on both sides"};
}

Result<void> Applier::begin(const pb::Begin& begin) {
  if (in_transaction_) {
    return Error{
        ErrorCode::kNetwork, "a transaction began inside another one", {}, Recovery::kRetry};
  }
  in_transaction_ = true;
  commit_time_usec_ = begin.commit_time_usec();
  // A master that crashed may send again what was confirmed, and so may a sender that serves
  // somebody further behind.
  skipping_ = begin.commit_lsn() < position_.value;
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
  ++group_transactions_;
  return group_rows_ >= options_.group_rows_max ? commit_group() : Result<void>{};
}

Result<void> Applier::open_group() {
  if (group_open_) return {};
  group_open_ = true;
  return send(Sent::kBegin, kBegin);
}

Result<void> Applier::apply_rows(const Batch& batch, const pb::Rows& block) {
  if (!in_transaction_)
    return Error{ErrorCode::kNetwork, "rows came outside a transaction", {}, Recovery::kRetry};
  ASSIGN_OR_RETURN(MappedTable * table, tables_.table(block.relation_oid()));
  if (!table->taken) return {};
  note_formats(*table, block);
  proto::RowBlockReader reader(block, static_cast<std::size_t>(table->relation.columns_size()));
  proto::Row row;
  for (std::uint32_t i = 0; !reader.done(); ++i) {
    RETURN_IF_ERROR(reader.next(row));
    RETURN_IF_ERROR(apply_row(batch, {table, &block, i}, *table, row));
  }
  group_rows_ += block.count();
  return {};
}

// A type without a send function comes as text although binary was asked for, and everything does
// when the sender had to ask for text. A column without a value in this block says nothing.
void Applier::note_formats(MappedTable& table, const pb::Rows& block) {
  for (std::size_t i = 0; i < table.text_columns.size(); ++i) {
    const char format = block.formats().empty() ? 'b' : block.formats()[i];
    if (format != 'n') table.text_columns[i] = format;
  }
}

Result<void> Applier::apply_row(const Batch& batch, const RowOrigin& origin, MappedTable& table,
                                const proto::Row& row) {
  RETURN_IF_ERROR(check_identified(table, origin.block->operation()));
  const RowShape shape =
      shape_of(table.plan, origin.block->operation(), row, table.text_columns, one_trip_);
  if (shape.action == RowAction::kNothing) return {};
  ASSIGN_OR_RETURN(PreparedRow * statement, prepared(table, shape, batch, origin));
  RETURN_IF_ERROR(bind(table, *statement, row));
  const bool counted = !shape.asserted && shape.action != RowAction::kInsert;
  expected_.push_back({Sent::kRow, counted, origin, batch});
  return pipeline_.execute(statement->name, parameters_);
}

Result<PreparedRow*> Applier::prepared(MappedTable& table, const RowShape& shape,
                                       const Batch& batch, const RowOrigin& origin) {
  const auto found = table.prepared.find(shape);
  if (found != table.prepared.end()) return &found->second;
  auto statement = build_row_statement(table.plan, shape);
  PreparedRow made{fmt::format("bitacora_{}", ++statements_), std::move(statement.parameters)};
  expected_.push_back({Sent::kPrepare, false, origin, batch});
  RETURN_IF_ERROR(pipeline_.prepare(made.name, statement.sql, statement.types));
  return &table.prepared.emplace(shape, std::move(made)).first->second;
}

// libpq wants text zero-terminated, hence the copies; binary values go from the batch as they are.
Result<void> Applier::bind(const MappedTable& table, const PreparedRow& prepared,
                           const proto::Row& row) {
  parameters_.clear();
  texts_.clear();
  texts_.reserve(prepared.parameters.size());
  for (const auto& source : prepared.parameters) {
    const auto& value = (source.from_old ? row.old_tuple : row.new_tuple)[source.column];
    if (value.kind == proto::ValueKind::kUnchanged) {
      return Error{ErrorCode::kMaster,
                   fmt::format("{}: the master left out column {}, which the statement needs",
                               proto::qualified_name(table.relation),
                               table.relation.columns(static_cast<int>(source.column)).name()),
                   "set REPLICA IDENTITY FULL on this table on the master"};
    }
    const bool empty_text = value.kind == proto::ValueKind::kBinary &&
                            unreadable_when_empty(table.plan.columns[source.column], value.bytes);
    const bool text = value.kind == proto::ValueKind::kText || empty_text;
    const char* bytes = value.has_bytes() ? value.bytes.data() : nullptr;
    if (text) bytes = texts_.emplace_back(empty_text ? "" : value.bytes).c_str();
    parameters_.values.push_back(value.has_bytes() && bytes == nullptr ? "" : bytes);
    parameters_.lengths.push_back(static_cast<int>(value.bytes.size()));
    // Binary needs the type's receive function even for a NULL, and not every type has one.
    parameters_.formats.push_back(value.kind == proto::ValueKind::kBinary && !text ? 1 : 0);
  }
  return {};
}

Result<void> Applier::truncate(const pb::Truncate& truncate) {
  std::vector<const TablePlan*> plans;
  for (const auto oid : truncate.relation_oids()) {
    ASSIGN_OR_RETURN(const MappedTable* table, tables_.table(oid));
    if (table->taken) plans.push_back(&table->plan);
  }
  if (plans.empty()) return {};
  parameters_.clear();
  const std::string name;  // unnamed: it is not used again
  expected_.push_back({Sent::kTruncate});
  RETURN_IF_ERROR(pipeline_.prepare(name, build_truncate(plans, truncate.restart_identity()), {}));
  expected_.push_back({Sent::kTruncate});
  ++group_rows_;
  return pipeline_.execute(name, parameters_);
}

Result<void> Applier::send(Sent sent, const char* statement) {
  parameters_.clear();
  expected_.push_back({sent});
  return pipeline_.execute(statement, parameters_);
}

Result<void> Applier::send_progress() {
  std::string to;
  std::string from;
  std::string commit_time;
  append_big_endian(to, position_.value);
  append_big_endian(from, applied_.value);
  append_big_endian(commit_time, commit_time_usec_ - kPostgresEpochUsec);
  const std::array<const std::string*, 4> values = {&options_.subscription, &to, &commit_time,
                                                    &from};
  parameters_.clear();
  for (const auto* value : values) {
    const bool absent = value == &commit_time && commit_time_usec_ == 0;
    parameters_.values.push_back(absent ? nullptr : value->data());
    parameters_.lengths.push_back(static_cast<int>(value->size()));
    parameters_.formats.push_back(1);
  }
  expected_.push_back({Sent::kProgress});
  return pipeline_.execute(kProgress, parameters_);
}

// One trip: everything goes out at once, and statements that fail unless they touch one row keep
// COMMIT from happening. Two trips: every row's count has been read before COMMIT is sent.
Result<void> Applier::commit_group() {
  RETURN_IF_ERROR(send_progress());
  if (!one_trip_) RETURN_IF_ERROR(pipeline_.finish());
  RETURN_IF_ERROR(send(Sent::kCommit, kCommit));
  RETURN_IF_ERROR(ask_position());
  group_open_ = false;
  counts_.transactions += std::exchange(group_transactions_, 0);
  counts_.rows += std::exchange(group_rows_, 0);
  counts_.commit_time_usec = commit_time_usec_;
  return {};
}

// Also the end of every exchange with the server: the sync that follows makes it answer.
Result<void> Applier::ask_position() {
  RETURN_IF_ERROR(send(Sent::kPosition, kPosition));
  expected_.push_back({Sent::kSync});
  RETURN_IF_ERROR(pipeline_.sync());
  asked_at_ = Clock::now();
  return pipeline_.finish();
}

bool Applier::idle_due() const { return !group_open_ && !in_transaction_ && position_ > applied_; }

Result<void> Applier::rewrite_progress() {
  one_trip_ = true;
  RETURN_IF_ERROR(open_group());
  return commit_group();
}

Result<void> Applier::tick() {
  if (group_open_ || in_transaction_) return {};
  const auto now = Clock::now();
  if (idle_due() && now - progressed_at_ >= kIdleProgressInterval) {
    return rewrite_progress();
  }
  if (!durability_.pending()) return {};
  // The insert position after a commit that filled a WAL page counts the next page's header, which
  // is flushed with the next record only. On a quiet standby that record has to be ours.
  if (now - progressed_at_ >= kDurableOverdue) return rewrite_progress();
  return now - asked_at_ >= kPositionInterval ? ask_position() : Result<void>{};
}

Result<void> Applier::on_reply(const PGresult* reply) {
  CHECK(!expected_.empty());
  const Expected expected = std::move(expected_.front());
  expected_.pop_front();
  switch (PQresultStatus(reply)) {
    case PGRES_COMMAND_OK:
    case PGRES_TUPLES_OK:
      break;
    case PGRES_PIPELINE_SYNC:
      CHECK(expected.sent == Sent::kSync);
      return {};
    default:
      return failure(expected, reply);
  }
  // PQcmdTuples and PQcmdStatus take a non-const result although they do not change it.
  auto* readable = const_cast<PGresult*>(reply);
  if (expected.counted && std::strcmp(PQcmdTuples(readable), "1") != 0)
    return failure(expected, reply);
  if (expected.sent == Sent::kCommit) {
    if (std::strcmp(PQcmdStatus(readable), "COMMIT") != 0) return failure(expected, reply);
    applied_ = position_;
    progressed_at_ = Clock::now();
  } else if (expected.sent == Sent::kPosition) {
    read_position(reply);
  }
  return {};
}

void Applier::read_position(const PGresult* reply) {
  const StandbyLsn inserted{parse_lsn(PQgetvalue(reply, 0, 0)).value_or(0)};
  const StandbyLsn flushed{parse_lsn(PQgetvalue(reply, 0, 1)).value_or(0)};
  durability_.on_commit(applied_, inserted);
  durability_.on_flush(flushed);
}

Error Applier::failure(const Expected& expected, const PGresult* reply) const {
  if (expected.sent == Sent::kRow) return row_failure(expected.row, reply, options_.conninfo);
  if (expected.sent == Sent::kPrepare && expected.row.table != nullptr) {
    return standby_error(session_.connection(), reply,
                         fmt::format("standby table {} does not take what the master sends",
                                     proto::qualified_name(expected.row.table->relation)));
  }
  const char* sqlstate = PQresultErrorField(reply, PG_DIAG_SQLSTATE);
  if (expected.sent == Sent::kProgress && sqlstate != nullptr &&
      std::strcmp(sqlstate, kAssertionSqlstate) == 0) {
    return {ErrorCode::kState,
            fmt::format("somebody else moved the row of {} in bitacora.progress",
                        options_.subscription),
            "make sure that one receiver only has this --name, then start it again"};
  }
  return standby_error(
      session_.connection(), reply,
      expected.sent == Sent::kTruncate ? "TRUNCATE" : "the standby refused the group");
}

}  // namespace bitacora::apply
