#include "apply/row_failure.h"

#include <fmt/format.h>

#include "apply/standby_session.h"
#include "base/sqlstate.h"
#include "proto/relation.h"

namespace bitacora::apply {
namespace {

constexpr std::size_t kShownBytesMax = 60;  // of one value in a message

const char* verb_of(pb::RowOperation operation) {
  if (operation == pb::INSERT) return "INSERT into";
  return proto::has_new_tuple(operation) ? "UPDATE of" : "DELETE from";
}

Result<proto::Row> read_row(const RowOrigin& origin) {
  proto::RowBlockReader reader(*origin.block,
                               static_cast<std::size_t>(origin.table->relation.columns_size()));
  proto::Row row;
  for (std::uint32_t i = 0; i <= origin.index; ++i) RETURN_IF_ERROR(reader.next(row));
  return row;
}

std::string shown(StandbySession* session, const ColumnPlan& column, const proto::Value& value) {
  if (!value.has_bytes()) return "null";
  const bool binary = value.kind == proto::ValueKind::kBinary;
  std::string text =
      session != nullptr ? session->render(value.bytes, binary, column.binary_oid) : "?";
  if (text.size() > kShownBytesMax) text = text.substr(0, kShownBytesMax) + "...";
  return text;
}

std::string_view field(const PGresult* reply, int code) {
  const char* text = PQresultErrorField(reply, code);
  return text != nullptr ? text : "";
}

Error drift(const RowOrigin& row, const std::string& what, const std::string& detail) {
  const auto name = proto::qualified_name(row.table->relation);
  return {ErrorCode::kStandby,
          fmt::format("{} {}: {} {}", verb_of(row.block->operation()), name, what, detail),
          fmt::format("somebody else changed {} on the standby: make the row as it was on the "
                      "master, then start the receiver again",
                      name)};
}

}  // namespace

std::string row_name(const RowOrigin& origin, const std::string& conninfo) {
  const auto row = read_row(origin);
  if (!row.ok()) return "(unreadable)";
  auto session = StandbySession::connect(conninfo, "bitacora receiver");
  const auto& plan = origin.table->plan;
  const auto& tuple = row->old_tuple.empty() ? row->new_tuple : row->old_tuple;
  std::string names;
  std::string values;
  for (std::size_t i = 0; i < plan.columns.size(); ++i) {
    if (!plan.columns[i].key && !plan.locator.empty()) continue;
    if (!names.empty()) names += ", ";
    if (!values.empty()) values += ", ";
    names += origin.table->relation.columns(static_cast<int>(i)).name();
    values += shown(session.ok() ? &*session : nullptr, plan.columns[i], tuple[i]);
  }
  return fmt::format("({})=({})", names, values);
}

RowRefusal read_refusal(const PGresult* reply) {
  const auto text = [&](int code) { return std::string(field(reply, code)); };
  RowRefusal refusal;
  refusal.succeeded = PQresultStatus(reply) != PGRES_FATAL_ERROR;
  refusal.touched = PQcmdTuples(const_cast<PGresult*>(reply));
  refusal.sqlstate = text(PG_DIAG_SQLSTATE);
  refusal.message = text(PG_DIAG_MESSAGE_PRIMARY);
  refusal.detail = text(PG_DIAG_MESSAGE_DETAIL);
  refusal.schema = text(PG_DIAG_SCHEMA_NAME);
  refusal.constraint = text(PG_DIAG_CONSTRAINT_NAME);
  return refusal;
}

Error row_failure(const RowOrigin& row, const PGresult* reply, const std::string& conninfo) {
  return row_failure(row, read_refusal(reply), conninfo);
}

Error row_failure(const RowOrigin& row, const RowRefusal& refusal, const std::string& conninfo) {
  const bool counted = row.block->operation() != pb::INSERT;
  if (counted && refusal.sqlstate == kAssertionSqlstate) {
    return drift(row, "no row with", row_name(row, conninfo) + ", or more than one");
  }
  if (refusal.succeeded) {
    const bool none = refusal.touched == "0";
    return drift(row, none ? "no row with" : "several rows with", row_name(row, conninfo));
  }
  if (refusal.sqlstate == "23505") return drift(row, "a row is already there:", refusal.detail);
  return {ErrorCode::kStandby,
          fmt::format("{} {}: {}{}{}", verb_of(row.block->operation()),
                      proto::qualified_name(row.table->relation), refusal.message,
                      refusal.detail.empty() ? "" : ": ", refusal.detail),
          "mend it on the standby, then start the receiver again: it continues with this row",
          recovery_for_sqlstate(refusal.sqlstate)};
}

}  // namespace bitacora::apply
