#include "apply/set_writer.h"

#include <cstdlib>

#include <fmt/format.h>

#include "apply/copy_format.h"
#include "apply/replication_origin.h"
#include "apply/standby_session.h"
#include "base/bytes.h"
#include "base/fault_point.h"
#include "proto/relation.h"

namespace bitacora::apply {
namespace {

constexpr std::size_t kChunkBytes = 256u << 10;
constexpr std::chrono::seconds kSizeIsFresh{10};
// No autovacuum freezes another session's temporary tables: one that lives for ever would hold the
// server's oldest transaction ID back.
constexpr std::chrono::hours kStageTime{1};
// What a probe of an index costs, in rows of a sequential scan with a hash table.
constexpr std::uint64_t kProbeRows = 2;
constexpr std::uint64_t kRowOverheadBytes = 28;  // a heap tuple's header and line pointer

std::string doubled_quotes(const std::string& text) {
  std::string doubled;
  for (const char c : text) doubled.append(c == '\'' ? 2 : 1, c);
  return doubled;
}

std::uint64_t number(const char* text) { return std::strtoull(text, nullptr, 10); }

}  // namespace

Result<std::uint64_t> SetWriter::run(std::string_view doing, const std::string& sql) {
  if (PQsendQuery(connection_, sql.c_str()) != 1) return standby_error(connection_, nullptr, doing);
  std::uint64_t rows = 0;
  Result<void> outcome;
  while (ResultHandle result{PQgetResult(connection_)}) {
    const auto status = PQresultStatus(result.get());
    if (status == PGRES_COPY_IN) return 0;  // the data is to follow
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
      outcome = standby_error(connection_, result.get(), doing);
    if (const char* count = PQcmdTuples(result.get()); *count != '\0') rows = number(count);
    if (status == PGRES_TUPLES_OK && PQntuples(result.get()) == 1)
      rows = number(PQgetvalue(result.get(), 0, 0));
  }
  if (!outcome.ok()) return outcome.error();
  return rows;
}

template <class Append>
Result<void> SetWriter::copy(const CopyStatement& statement, std::size_t rows, Append append) {
  RETURN_IF_ERROR(run("COPY", statement.sql));
  const auto send = [&](std::string& bytes) {
    const bool sent = PQputCopyData(connection_, bytes.data(), static_cast<int>(bytes.size())) == 1;
    bytes.clear();
    return sent;
  };
  std::string chunk;
  begin_copy(chunk);
  for (std::size_t i = 0; i < rows; ++i) {
    append(chunk, i);
    if (chunk.size() < kChunkBytes) continue;
    if (!send(chunk)) return standby_error(connection_, nullptr, "COPY");
  }
  end_copy(chunk);
  if (!send(chunk) || PQputCopyEnd(connection_, nullptr) != 1)
    return standby_error(connection_, nullptr, "COPY");
  Result<void> outcome;
  while (ResultHandle result{PQgetResult(connection_)}) {
    if (PQresultStatus(result.get()) != PGRES_COMMAND_OK && outcome.ok())
      outcome = standby_error(connection_, result.get(), "COPY");
  }
  return outcome;
}

// A tuple that goes as it is, is not looked into.
Result<void> SetWriter::copy_tuples(const MappedTable& table, const CopyStatement& statement,
                                    const std::vector<std::string_view>& tuples,
                                    std::size_t& bytes) {
  const bool whole = statement.columns.size() == table.plan.columns.size();
  return copy(statement, tuples.size(), [&](std::string& out, std::size_t i) {
    bytes += tuples[i].size();
    if (whole) {
      out += tuples[i];
    } else {
      append_columns(out, tuples[i], statement.columns);
    }
  });
}

template <class Build>
Result<SetWriter::Stage*> SetWriter::stage(const MappedTable& table, const std::string& shape,
                                           Build build) {
  const auto [place, is_new] = stages_.try_emplace({&table, shape});
  Stage& stage = place->second;
  if (is_new) stage.statement = build(table.plan, fmt::format("bitacora_stage_{}", stages_.size()));
  const auto now = std::chrono::steady_clock::now();
  const bool old = !is_new && stage.transaction != transaction_ && now - stage.made_at > kStageTime;
  if (is_new || old) {
    const auto gone = old ? stage.statement.drop + "; " : "";
    RETURN_IF_ERROR(run("cannot make a temporary table",
                        first_change_sql() + "; " + gone + stage.statement.create));
    stage.made_at = now;
  } else if (stage.transaction == transaction_) {
    RETURN_IF_ERROR(run("TRUNCATE", stage.statement.empty));
  }
  stage.transaction = transaction_;
  return &stage;
}

// Rows of the table, about, from its size and from how large the staged ones are.
Result<JoinBy> SetWriter::join_by(const MappedTable& table, std::size_t rows, std::size_t bytes) {
  if (!table.plan.locator_indexed) return JoinBy::kScan;
  Size& size = sizes_[&table];
  const auto now = std::chrono::steady_clock::now();
  if (now - size.asked_at > kSizeIsFresh) {
    const auto sql = table.plan.partitioned
                         ? "SELECT sum(pg_catalog.pg_relation_size(relid))::bigint FROM "
                           "pg_catalog.pg_partition_tree('{}')"
                         : "SELECT pg_catalog.pg_relation_size('{}')";
    ASSIGN_OR_RETURN(size.bytes,
                     run("cannot ask for a table's size",
                         fmt::format(fmt::runtime(sql), doubled_quotes(table.plan.target))));
    size.asked_at = now;
  }
  const auto row_bytes = bytes / rows + kRowOverheadBytes;
  return rows * kProbeRows < size.bytes / row_bytes ? JoinBy::kIndex : JoinBy::kScan;
}

Result<void> SetWriter::change(const MappedTable& table, const Stage& stage, std::size_t rows,
                               std::size_t bytes) {
  ASSIGN_OR_RETURN(const auto join, join_by(table, rows, bytes));
  fault_point("apply.before_row");
  ASSIGN_OR_RETURN(const auto touched, run("the standby refused a set of rows",
                                           set_join(join) + stage.statement.change + reset_join()));
  if (touched == rows) return {};
  return Error{ErrorCode::kStandby, fmt::format("{} of {} rows of {} were found", touched, rows,
                                                proto::qualified_name(table.relation))};
}

Result<void> SetWriter::erase(const MappedTable& table, const std::vector<std::string_view>& keys) {
  ASSIGN_OR_RETURN(const Stage* into, stage(table, "", build_staged_delete));
  std::size_t bytes = 0;
  const auto columns = static_cast<std::int16_t>(table.plan.locator.size());
  RETURN_IF_ERROR(copy(into->statement.copy, keys.size(), [&](std::string& out, std::size_t i) {
    append_big_endian(out, columns);
    out += keys[i];
    bytes += keys[i].size();
  }));
  return change(table, *into, keys.size(), bytes);
}

Result<void> SetWriter::update(const MappedTable& table, const NetChanges::Updates& updates) {
  ASSIGN_OR_RETURN(const Stage* into,
                   stage(table, updates.unchanged, [&](const TablePlan& plan, const auto& name) {
                     return build_staged_update(plan, updates.unchanged, name);
                   }));
  if (into->statement.change.empty()) return {};
  std::size_t bytes = 0;
  RETURN_IF_ERROR(copy_tuples(table, into->statement.copy, updates.tuples, bytes));
  return change(table, *into, updates.tuples.size(), bytes);
}

Result<void> SetWriter::insert(const MappedTable& table,
                               const std::vector<std::string_view>& tuples) {
  std::size_t bytes = 0;
  fault_point("apply.before_row");
  return copy_tuples(table, build_copy(table.plan), tuples, bytes);
}

}  // namespace bitacora::apply
