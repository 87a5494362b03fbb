#include "apply/exact_path.h"

#include <utility>

#include <fmt/format.h>

#include "apply/replication_origin.h"
#include "apply/row_statement.h"
#include "base/fault_point.h"
#include "proto/relation.h"

namespace bitacora::apply {
namespace {

constexpr Oid kInt2VectorOid = 22;
constexpr Oid kOidVectorOid = 30;
constexpr Oid kTsqueryOid = 3615;

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

// A type without a send function comes as text although binary was asked for, and everything does
// when the sender had to ask for text. A column without a value in this block says nothing.
void ExactPath::note_formats(MappedTable& table, const pb::Rows& block) {
  for (std::size_t i = 0; i < table.text_columns.size(); ++i) {
    const char format = block.formats().empty() ? 'b' : block.formats()[i];
    if (format != 'n') table.text_columns[i] = format;
  }
}

Result<void> ExactPath::write(const SharedChanges& batch, const RowOrigin& origin,
                              MappedTable& table, pb::RowOperation operation, const proto::Row& row,
                              bool asserted) {
  RETURN_IF_ERROR(check_identified(table, operation));
  const auto shape = shape_of(table.plan, operation, row, table.text_columns, asserted);
  return send(batch, origin, table, shape, row, Sent::kRow);
}

Result<void> ExactPath::write_guarded(const SharedChanges& batch, const RowOrigin& origin,
                                      MappedTable& table, pb::RowOperation operation,
                                      const proto::Row& row) {
  const auto shape = shape_of(table.plan, operation, row, table.text_columns, true);
  return send(batch, origin, table, shape, row, Sent::kGuarded);
}

Result<bool> ExactPath::make_ready(const SharedChanges& batch, const RowOrigin& origin,
                                   MappedTable& table, pb::RowOperation operation,
                                   const proto::Row& row) {
  RETURN_IF_ERROR(check_identified(table, operation));
  const auto shape = shape_of(table.plan, operation, row, table.text_columns, true);
  if (shape.action == RowAction::kNothing || table.prepared.contains(shape)) return false;
  ASSIGN_OR_RETURN([[maybe_unused]] const auto* made, prepared(table, shape, batch, origin));
  return true;
}

Result<void> ExactPath::send(const SharedChanges& batch, const RowOrigin& origin,
                             MappedTable& table, const RowShape& shape, const proto::Row& row,
                             Sent sent) {
  if (shape.action == RowAction::kNothing) return {};
  ASSIGN_OR_RETURN(PreparedRow * statement, prepared(table, shape, batch, origin));
  RETURN_IF_ERROR(bind(table, statement->parameters, row));
  const bool counted = !shape.asserted && shape.action != RowAction::kInsert;
  fault_point("apply.before_row");
  return exchange_.execute(statement->name, parameters_, {sent, counted, origin, batch});
}

Result<PreparedRow*> ExactPath::prepared(MappedTable& table, const RowShape& shape,
                                         const SharedChanges& batch, const RowOrigin& origin) {
  const auto found = table.prepared.find(shape);
  if (found != table.prepared.end()) return &found->second;
  auto statement = build_row_statement(table.plan, shape);
  PreparedRow made{fmt::format("bitacora_{}", ++statements_), std::move(statement.parameters)};
  RETURN_IF_ERROR(exchange_.prepare(made.name, statement.sql, statement.types,
                                    {Sent::kPrepare, false, origin, batch}));
  return &table.prepared.emplace(shape, std::move(made)).first->second;
}

// libpq wants text zero-terminated, hence the copies; binary values go from the batch as they are.
Result<const Parameters*> ExactPath::bind(const MappedTable& table,
                                          const std::vector<ParameterSource>& sources,
                                          const proto::Row& row) {
  parameters_.clear();
  texts_.clear();
  texts_.reserve(sources.size());
  for (const auto& source : sources) {
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
  return &parameters_;
}

Result<void> ExactPath::truncate(const Truncation& truncation) {
  parameters_.clear();
  const std::string name;  // unnamed: it is not used again
  RETURN_IF_ERROR(exchange_.prepare(name, first_change_sql(), {}, {Sent::kTruncate}));
  RETURN_IF_ERROR(exchange_.execute(name, parameters_, {Sent::kTruncate}));
  for (const auto& statement : build_truncate(truncation)) {
    RETURN_IF_ERROR(exchange_.prepare(name, statement, {}, {Sent::kTruncate}));
    RETURN_IF_ERROR(exchange_.execute(name, parameters_, {Sent::kTruncate}));
  }
  return {};
}

}  // namespace bitacora::apply
