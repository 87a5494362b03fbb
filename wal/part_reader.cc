#include "wal/part_reader.h"

#include <cstdlib>
#include <set>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "proto/relation.h"
#include "wal/answer_wait.h"
#include "wal/patient_query.h"

namespace bitacora::wal {
namespace {

struct FreeMemory {
  void operator()(char* memory) const noexcept { PQfreemem(memory); }
};

Error not_in_the_plan(const CopyPlanTable& table, const std::string& what) {
  return {ErrorCode::kState, fmt::format("{} was asked for with {}, which the plan does not have",
                                         proto::qualified_name(table.plan.relation()), what)};
}

Error changed(const std::string& name, std::string_view how) {
  return {ErrorCode::kState,
          fmt::format("{} cannot be copied as it was in the snapshot: {}", name, how),
          "its copy begins again in a new snapshot"};
}

// Nobody reads a column that is not published.
Result<std::string> column_list(const CopyPlanTable& table, const pb::CopyPart& part) {
  std::set<std::string_view> published;
  for (const auto& column : table.plan.relation().columns()) published.insert(column.name());
  std::vector<std::string> quoted;
  for (const auto& column : part.columns()) {
    if (!published.contains(column))
      return not_in_the_plan(table, fmt::format("column {}", proto::quoted_name(column)));
    quoted.push_back(proto::sql_identifier(column));
  }
  return fmt::format("{}", fmt::join(quoted, ", "));
}

std::string condition(const CopyPlanTable& table, const pb::CopyPart& part) {
  std::vector<std::string> conditions;
  if (part.begin_page() != 0)
    conditions.push_back(fmt::format("ctid >= '({},0)'::pg_catalog.tid", part.begin_page()));
  if (part.end_page() != 0)
    conditions.push_back(fmt::format("ctid < '({},0)'::pg_catalog.tid", part.end_page()));
  if (!table.row_filter.empty()) conditions.push_back(fmt::format("({})", table.row_filter));
  return fmt::format("{}", fmt::join(conditions, " AND "));
}

// A whole table takes the form that needs no plan and no executor. It cannot say that there are no
// columns, nor does it need to be told to leave out what inherits from the table.
Result<std::string> statement(const CopyPlanTable& table, const pb::CopyPart& part) {
  const auto piece = table.pieces.find(part.piece_oid());
  if (piece == table.pieces.end())
    return not_in_the_plan(table, fmt::format("piece {}", part.piece_oid()));
  ASSIGN_OR_RETURN(const auto columns, column_list(table, part));
  const auto where = condition(table, part);
  const auto what = where.empty() && !columns.empty()
                        ? fmt::format("{} ({})", piece->second, columns)
                        : fmt::format("(SELECT {} FROM ONLY {}{}{})", columns, piece->second,
                                      where.empty() ? "" : " WHERE ", where);
  return fmt::format("COPY {} TO STDOUT{}", what, part.binary() ? " (FORMAT binary)" : "");
}

Error read_error(PGconn* connection, const std::string& name, const PGresult* result) {
  auto error = master_error(connection, fmt::format("cannot copy {}", name), result);
  const char* state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
  const std::string_view sqlstate = state != nullptr ? state : "";
  const bool gone = sqlstate == "42P01" || sqlstate == "42703";  // table, column
  return gone ? changed(name, PQresultErrorMessage(result)) : error;
}

Error given_up(const std::string& name) {
  return {ErrorCode::kMaster, fmt::format("the copy of {} was given up", name)};
}

}  // namespace

// Rows, joined so that the sink is not called for each; one that is large goes by itself.
class PartReader::Pieces {
 public:
  explicit Pieces(const Sink& sink) : sink_(sink) { joined_.reserve(piece_bytes); }

  Result<void> add(std::string_view row) {
    bytes_ += row.size();
    if (joined_.size() + row.size() > piece_bytes) RETURN_IF_ERROR(flush());
    if (row.size() >= piece_bytes) return sink_(row);
    joined_ += row;
    return {};
  }
  Result<void> flush() {
    if (joined_.empty()) return {};
    RETURN_IF_ERROR(sink_(joined_));
    joined_.clear();
    return {};
  }
  std::uint64_t bytes() const { return bytes_; }

 private:
  const Sink& sink_;
  std::string joined_;
  std::uint64_t bytes_ = 0;
};

Result<std::unique_ptr<PartReader>> PartReader::open(const std::string& conninfo,
                                                     const std::string& snapshot) {
  ASSIGN_OR_RETURN(auto connection, open_in_snapshot(conninfo, snapshot));
  return std::unique_ptr<PartReader>(new PartReader(conninfo, std::move(connection)));
}

Result<pb::CopyPartEnd> PartReader::read(const CopyPlanTable& table, const pb::CopyPart& part,
                                         const Sink& sink, const OnWaiting& waiting) {
  ASSIGN_OR_RETURN(const auto sql, statement(table, part));
  const auto& name = table.pieces.at(part.piece_oid());
  auto end = copy(name, sql, sink, waiting);
  if (!end.ok()) {
    // So that the master does not go on for nobody: with what it has to compute, or to send.
    if (PQtransactionStatus(connection_.get()) == PQTRANS_ACTIVE) cancel_query(connection_.get());
    connection_.reset();
    return end;
  }
  RETURN_IF_ERROR(check_unchanged(name, part.piece_oid()));
  return end;
}

Result<pb::CopyPartEnd> PartReader::copy(const std::string& name, const std::string& sql,
                                         const Sink& sink, const OnWaiting& waiting) {
  PGconn* pq = connection_.get();
  const auto doing = fmt::format("cannot copy {}", name);
  LockWatch watch(conninfo_);
  const auto tell = [&] { watch.tell(PQbackendPID(pq), waiting); };
  AnswerWait wait(pq, doing, tell, stop_.get_token());
  if (PQsendQuery(pq, sql.c_str()) != 1) return master_error(pq, doing);
  RETURN_IF_ERROR(wait.answer());
  const MasterResult begun(PQgetResult(pq));
  if (PQresultStatus(begun.get()) != PGRES_COPY_OUT) return read_error(pq, name, begun.get());
  Pieces pieces(sink);
  for (;;) {
    if (stop_.stop_requested()) return given_up(name);
    char* raw = nullptr;
    const int length = PQgetCopyData(pq, &raw, 1);
    const std::unique_ptr<char, FreeMemory> row(raw);
    if (length < 0) break;
    if (length == 0) {
      RETURN_IF_ERROR(wait.input());
    } else {
      RETURN_IF_ERROR(pieces.add({raw, static_cast<std::size_t>(length)}));
    }
  }
  RETURN_IF_ERROR(wait.answer());
  const MasterResult ended(PQgetResult(pq));
  if (PQresultStatus(ended.get()) != PGRES_COMMAND_OK) return read_error(pq, name, ended.get());
  const MasterResult none(PQgetResult(pq));
  RETURN_IF_ERROR(pieces.flush());
  pb::CopyPartEnd end;
  end.set_rows(std::strtoull(PQcmdTuples(ended.get()), nullptr, 10));
  end.set_bytes(pieces.bytes());
  return end;
}

// A table that was truncated or rewritten after the snapshot has a new file, in which the snapshot
// does not find its rows, or finds them on other pages; another one may have got its name. COPY's
// lock, which stays, keeps it as it is from before the first row on; what it was is in the
// snapshot's catalogue.
Result<void> PartReader::check_unchanged(const std::string& name, std::uint32_t oid) {
  PatientQuery ask(connection_.get(), conninfo_, {}, stop_.get_token());
  ASSIGN_OR_RETURN(
      const auto row,
      ask.rows("SELECT pg_catalog.to_regclass($1)::pg_catalog.oid = c.oid,"
               " pg_catalog.pg_relation_filenode(c.oid) = c.relfilenode FROM pg_catalog.pg_class c"
               " WHERE c.oid = $2::pg_catalog.oid",
               {name, std::to_string(oid)}, fmt::format("cannot copy {}", name)));
  const auto is_true = [&](int column) {
    const char* value = PQntuples(row.get()) == 1 ? field(row.get(), 0, column) : nullptr;
    return value != nullptr && *value == 't';
  };
  if (!is_true(0)) return changed(name, "another table has this name now");
  if (!is_true(1)) return changed(name, "it was truncated or rewritten since");
  return {};
}

}  // namespace bitacora::wal
