// The SQL that applies one row. Pure: a table's plan and a row's shape in, a statement out.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "apply/table_plan.h"
#include "proto/row_block.h"

namespace bitacora::apply {

enum class RowAction {
  kInsert,
  kUpdate,
  kReplace,  // DELETE and INSERT in one statement: a GENERATED ALWAYS identity column changed
  kDelete,
  kFind,     // the rows that kUpdate or kDelete would touch: table OID, ctid, row as jsonb
  kNothing,  // an UPDATE that changes nothing the standby stores
};

// What decides the statement's text. Rows of equal shape share one prepared statement.
struct RowShape {
  RowAction action = RowAction::kNothing;
  bool has_old = false;   // the locator's values come from the old tuple, else from the new one
  bool asserted = false;  // the statement itself fails unless it touches exactly one row
  std::string columns;    // per column: b or t as its value arrives, u for an unchanged TOAST value

  friend auto operator<=>(const RowShape&, const RowShape&) = default;
};

struct ParameterSource {
  bool from_old = false;
  std::size_t column = 0;
};

struct RowStatement {
  std::string sql;
  std::vector<std::uint32_t> types;
  std::vector<ParameterSource> parameters;
};

// SQLSTATE of an asserted statement that did not touch exactly one row (substring_error; see
// row_statement.cc).
inline constexpr const char* kAssertionSqlstate = "22011";

// `text_columns` says per column whether its values arrive as text (t) or binary (b); see
// RowShape::columns.
RowShape shape_of(const TablePlan& plan, pb::RowOperation operation, const proto::Row& row,
                  const std::string& text_columns, bool asserted);

// The first parameter's number is one more than `parameters_before`.
RowStatement build_row_statement(const TablePlan& plan, const RowShape& shape,
                                 std::size_t parameters_before = 0);

// `alias`.column = value, found by index where the type has an equality.
std::string equals(const ColumnPlan& column, const std::string& alias, const std::string& value);

// Several tables at once.
struct Truncation {
  std::vector<const TablePlan*> plans;
  std::vector<std::string> roots = {};  // quoted; empty once the tables are, and to be named, too
  bool restart_identity = false;
  bool partial = false;  // a table of the standby's keeps its rows: its copy is of later
};

// When a table holds rows of others too, own ones are deleted, and so are those of the other
// tables: it may refer to them, which TRUNCATE would refuse. So may one that keeps its rows.
std::vector<std::string> build_truncate(const Truncation& truncation);

}  // namespace bitacora::apply
