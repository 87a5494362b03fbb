// The SQL that applies many rows of one table at once. Pure: a table's plan in, statements out.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "apply/table_plan.h"

namespace bitacora::apply {

// COPY of whole tuples into the table. `columns`: which of a tuple's, in their order.
struct CopyStatement {
  std::string sql;
  std::vector<std::size_t> columns;
};

CopyStatement build_copy(const TablePlan& plan);

// Rows are first copied into a temporary table, which every commit empties, then the table is
// changed by a join with it.
struct StagedStatement {
  std::string create;  // the temporary table
  CopyStatement copy;  // into it
  std::string change;
  std::string empty;  // for another run in the same transaction
  std::string drop;
};

// `unchanged`: per column u when it is left as it is (see NetChanges::Updates). An empty `change`:
// there is nothing to set.
StagedStatement build_staged_update(const TablePlan& plan, const std::string& unchanged,
                                    const std::string& stage);
StagedStatement build_staged_delete(const TablePlan& plan, const std::string& stage);

// How the join finds the table's rows. Left to itself the planner knows nothing of how many rows
// are staged: it would walk a large table for a few of them.
enum class JoinBy { kIndex, kScan };
// SET LOCAL for the join, and back to the session's settings.
std::string set_join(JoinBy join);
std::string reset_join();

}  // namespace bitacora::apply
