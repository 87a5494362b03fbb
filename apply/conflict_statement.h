// The SQL that looks at a conflict: the row as the master sent it, and the rows that are in its
// way. Pure.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "apply/row_statement.h"
#include "apply/table_plan.h"

namespace bitacora::apply {

// A unique index or exclusion constraint of a table or of one of its partitions.
struct UniqueIndex {
  std::string name;
  std::string table;  // schema.table, quoted, that it is of
  struct Part {
    bool plain = false;      // a column, else an expression
    std::string expression;  // over the table's columns
    std::string op;          // that tells when two values collide
  };
  std::vector<Part> parts;
  std::string predicate;  // empty: none
  bool nulls_collide = false;
};

// $1: schema.table, quoted; $2, $3: schema and name of an index that an error named. One line per
// index and part: name, table, plain, expression, operator, predicate, nulls_collide. What is
// checked at the end of a transaction is not among them unless it was named.
std::string unique_indexes_sql();
std::vector<UniqueIndex> read_unique_indexes(
    const std::vector<std::vector<std::optional<std::string>>>& lines);

// jsonb of the row and of what identifies it. `known` says per column where its value stands: n in
// the new tuple, o in the old one, - nowhere (an unchanged TOAST value; marked).
RowStatement build_description(const TablePlan& plan, const RowShape& shape,
                               const std::string& known);

// Index name, table OID, ctid and jsonb of the rows that the new tuple collides with; for an UPDATE
// also the row itself. Empty when no index can be looked at.
RowStatement build_collisions(const TablePlan& plan, const RowShape& shape,
                              const std::vector<UniqueIndex>& indexes);

}  // namespace bitacora::apply
