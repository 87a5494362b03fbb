#include "apply/group_writer.h"

#include <array>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "apply/progress.h"
#include "apply/turn.h"
#include "base/bytes.h"
#include "base/fault_point.h"
#include "proto/relation.h"

namespace bitacora::apply {
namespace {

constexpr std::int64_t kPostgresEpochUsec = 946'684'800'000'000;
constexpr Oid kTextOid = 25;
constexpr Oid kInt8Oid = 20;
constexpr Oid kTimestamptzOid = 1184;
constexpr Oid kPgLsnOid = 3220;

constexpr const char* kBegin = "bitacora_begin";
constexpr const char* kCommit = "bitacora_commit";
constexpr const char* kProgress = "bitacora_progress";
constexpr const char* kPosition = "bitacora_position";
constexpr const char* kPositionAndSlots = "bitacora_position_and_slots";
constexpr const char* kHoldTurn = "bitacora_hold_turn";
constexpr const char* kAwaitTurn = "bitacora_await_turn";
constexpr const char* kEndTurn = "bitacora_end_turn";

FastPathOptions fast_options(const ApplierOptions& options) {
  FastPathOptions fast = options.fast;
  if (options.path == ApplyPath::kFast) fast.set_rows_min = 1;
  return fast;
}

}  // namespace

GroupWriter::GroupWriter(StandbySession& session, const ApplierOptions& options)
    : session_(session),
      options_(options),
      exchange_(session.connection(),
                [this](const Expected& expected, const PGresult* reply) {
                  return on_reply(expected, reply);
                }),
      exact_(exchange_),
      fast_(exchange_, exact_, session.connection(), fast_options(options)),
      careful_(
          exchange_, exact_,
          {options.subscription, options.conninfo, options.conflicts, options.careful_tables}) {}

Result<void> GroupWriter::start(std::uint64_t turn) {
  struct Statement {
    const char* name;
    std::string sql;
    std::vector<Oid> types;
  };
  std::vector<Statement> statements{
      {kBegin, "BEGIN", {}},
      {kCommit, "COMMIT", {}},
      {kProgress, advance_progress_sql(), {kTextOid, kPgLsnOid, kTimestamptzOid, kPgLsnOid}},
      {kPosition, "SELECT pg_current_wal_insert_lsn(), pg_current_wal_flush_lsn()", {}},
      {kPositionAndSlots,
       "SELECT pg_current_wal_insert_lsn(), pg_current_wal_flush_lsn(), EXISTS (SELECT FROM"
       " pg_replication_slots WHERE slot_name LIKE 'bitacora\\_%' AND database ="
       " current_database())",
       {}}};
  if (turn != 0) {
    statements.push_back({kHoldTurn, hold_turn_sql(), {kTextOid, kInt8Oid}});
    statements.push_back({kAwaitTurn, await_turn_sql(), {kTextOid, kInt8Oid}});
    statements.push_back({kEndTurn, end_turn_sql(), {kTextOid, kInt8Oid, kInt8Oid}});
  }
  for (const auto& statement : statements) {
    RETURN_IF_ERROR(
        exchange_.prepare(statement.name, statement.sql, statement.types, {Sent::kPrepare}));
  }
  RETURN_IF_ERROR(careful_.start());
  if (turn != 0) RETURN_IF_ERROR(send_turns(kHoldTurn, {turn}));
  RETURN_IF_ERROR(exchange_.sync());
  return exchange_.finish();
}

Result<void> GroupWriter::begin(const GroupStart& start) {
  start_ = start;
  fault_point("apply.before_begin");
  RETURN_IF_ERROR(send(Sent::kBegin, kBegin));
  return start.after == 0 ? Result<void>{} : send_turns(kAwaitTurn, {start.after});
}

Result<void> GroupWriter::write(const GroupRows& rows) {
  MappedTable& table = own(*rows.table);
  const pb::Rows& block = *rows.block;
  ExactPath::note_formats(table, block);
  NetChanges* changes = nullptr;
  if (may_be_fast(table, rows.source.begun)) {
    ASSIGN_OR_RETURN(changes, fast_.changes(rows.batch, table, block));
  } else {
    RETURN_IF_ERROR(fast_.flush(table));
  }
  proto::RowBlockReader reader(block, static_cast<std::size_t>(table.relation.columns_size()));
  proto::Row row;
  for (std::uint32_t i = 0; !reader.done(); ++i) {
    RETURN_IF_ERROR(reader.next(row));
    if (changes != nullptr) {
      if (changes->add(block.operation(), row)) continue;
      RETURN_IF_ERROR(fast_.flush(table));
    }
    RETURN_IF_ERROR(write_row(rows, {&table, &block, i}, table, row));
  }
  return changes != nullptr ? fast_.on_block(table, block) : Result<void>{};
}

Result<void> GroupWriter::write_row(const GroupRows& rows, const RowOrigin& origin,
                                    MappedTable& table, const proto::Row& row) {
  const auto operation = rows.block->operation();
  const auto& source = rows.source;
  if (!careful_.covers(table, source.begun))
    return exact_.write(rows.batch, origin, table, operation, row, start_.one_trip);
  return careful_.write(
      {rows.batch, origin, &table, operation, row, source.begun, source.commit_time_usec});
}

MappedTable& GroupWriter::own(const MappedTable& table) {
  auto& own = tables_[&table];
  if (own == nullptr) own = std::make_unique<MappedTable>(table);
  return *own;
}

// What goes out with its COMMIT goes row by row: nothing is faster for a few.
bool GroupWriter::may_be_fast(const MappedTable& table, MasterLsn begun) const {
  if (start_.one_trip || start_.exact_only || options_.path == ApplyPath::kExact) return false;
  const auto exact = options_.exact_tables.find(proto::qualified_name(table.relation));
  return (exact == options_.exact_tables.end() ||
          std::chrono::steady_clock::now() >= exact->second) &&
         !careful_.covers(table, begun);
}

Result<void> GroupWriter::settle() {
  RETURN_IF_ERROR(careful_.settle());
  return fast_.flush();
}

Result<void> GroupWriter::truncate(const Truncation& truncation) {
  RETURN_IF_ERROR(settle());
  return exact_.truncate(truncation);
}

Result<void> GroupWriter::send(Sent sent, const char* statement) {
  parameters_.clear();
  return exchange_.execute(statement, parameters_, {sent});
}

Result<void> GroupWriter::send_turns(const char* statement,
                                     const std::vector<std::uint64_t>& turns) {
  std::vector<std::string> values{options_.subscription};
  for (const auto turn : turns) append_big_endian(values.emplace_back(), turn);
  parameters_.clear();
  for (const auto& value : values) {
    parameters_.values.push_back(value.data());
    parameters_.lengths.push_back(static_cast<int>(value.size()));
    parameters_.formats.push_back(1);
  }
  return exchange_.execute(statement, parameters_, {Sent::kTurn});
}

Result<void> GroupWriter::send_progress(const GroupEnd& end) {
  std::string to;
  std::string from;
  std::string commit_time;
  append_big_endian(to, end.to.value);
  append_big_endian(from, end.from.value);
  append_big_endian(commit_time, end.commit_time_usec - kPostgresEpochUsec);
  const std::array<const std::string*, 4> values = {&options_.subscription, &to, &commit_time,
                                                    &from};
  parameters_.clear();
  for (const auto* value : values) {
    const bool absent = value == &commit_time && end.commit_time_usec == 0;
    parameters_.values.push_back(absent ? nullptr : value->data());
    parameters_.lengths.push_back(static_cast<int>(value->size()));
    parameters_.formats.push_back(1);
  }
  return exchange_.execute(kProgress, parameters_, {Sent::kProgress});
}

// One trip: everything goes out at once, and statements that fail unless they touch one row keep
// COMMIT from happening. Two trips: every row's count has been read before COMMIT is sent.
Result<void> GroupWriter::commit(const GroupEnd& end) {
  RETURN_IF_ERROR(settle());
  if (!start_.one_trip) RETURN_IF_ERROR(exchange_.finish());
  if (end.after != 0) RETURN_IF_ERROR(send_turns(kAwaitTurn, {end.after}));
  fault_point("apply.before_progress");
  RETURN_IF_ERROR(send_progress(end));
  fault_point("apply.before_commit");
  RETURN_IF_ERROR(send(Sent::kCommit, kCommit));
  fault_point("apply.after_commit_sent");
  if (end.turn != 0) RETURN_IF_ERROR(send_turns(kEndTurn, {end.next_turn, end.turn}));
  RETURN_IF_ERROR(ask_position());
  fast_.on_commit();
  conflicts_ += careful_.on_commit();
  return {};
}

// Also the end of every exchange with the server: the sync that follows makes it answer.
Result<void> GroupWriter::ask_position() {
  RETURN_IF_ERROR(send(Sent::kPosition, kPosition));
  RETURN_IF_ERROR(exchange_.sync());
  return exchange_.finish();
}

Result<bool> GroupWriter::is_a_master_too() {
  RETURN_IF_ERROR(send(Sent::kPosition, kPositionAndSlots));
  RETURN_IF_ERROR(exchange_.sync());
  RETURN_IF_ERROR(exchange_.finish());
  return is_a_master_;
}

Result<void> GroupWriter::on_reply(const Expected& expected, const PGresult* reply) {
  if (expected.sent == Sent::kGuarded || expected.sent == Sent::kQuestion) {
    careful_.on_reply(expected, reply);
    return {};
  }
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
    fault_point("apply.after_commit");
  } else if (expected.sent == Sent::kPosition) {
    read_position(reply);
  }
  return {};
}

void GroupWriter::read_position(const PGresult* reply) {
  position_.inserted = StandbyLsn{parse_lsn(PQgetvalue(reply, 0, 0)).value_or(0)};
  position_.flushed = StandbyLsn{parse_lsn(PQgetvalue(reply, 0, 1)).value_or(0)};
  if (PQnfields(reply) > 2) is_a_master_ = *PQgetvalue(reply, 0, 2) == 't';
}

std::optional<PathRefusal> GroupWriter::refusal(MasterLsn through, bool concurrent) const {
  const auto* table = blamed_ != nullptr ? blamed_ : fast_.flushing();
  const bool careful = table != nullptr && careful_.may_help(*table, through);
  if (!careful && !fast_.used() && !concurrent) return std::nullopt;
  return PathRefusal{through, table == nullptr ? "" : proto::qualified_name(table->relation),
                     careful};
}

Error GroupWriter::failure(const Expected& expected, const PGresult* reply) {
  blamed_ = expected.row.table;
  // A row that the fast path made up is none of the master's.
  if (expected.sent == Sent::kRow && expected.row.block == nullptr) {
    if (PQresultStatus(reply) == PGRES_COMMAND_OK)
      return {ErrorCode::kStandby, "a row was not found, or more than one"};
    return standby_error(session_.connection(), reply, "the standby refused a row");
  }
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
