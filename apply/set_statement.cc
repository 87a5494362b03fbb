#include "apply/set_statement.h"

#include <algorithm>
#include <numeric>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "apply/row_statement.h"

namespace bitacora::apply {
namespace {

std::string names(const TablePlan& plan, const std::vector<std::size_t>& columns) {
  std::vector<std::string> all;
  for (const auto column : columns) all.push_back(plan.columns[column].name);
  return fmt::format("{}", fmt::join(all, ", "));
}

CopyStatement copy_into(const std::string& target, const TablePlan& plan,
                        std::vector<std::size_t> columns) {
  return {fmt::format("COPY {} ({}) FROM STDIN (FORMAT binary)", target, names(plan, columns)),
          std::move(columns)};
}

StagedStatement staged(const TablePlan& plan, std::vector<std::size_t> columns,
                       const std::string& stage) {
  StagedStatement statement;
  statement.create = fmt::format(
      "CREATE TEMPORARY TABLE {} ON COMMIT DELETE ROWS AS SELECT {} FROM {} WITH NO DATA", stage,
      names(plan, columns), plan.target);
  const auto name = "pg_temp." + stage;
  statement.copy = copy_into(name, plan, std::move(columns));
  statement.empty = "TRUNCATE " + name;
  statement.drop = "DROP TABLE " + name;
  return statement;
}

std::string only(const TablePlan& plan) { return plan.partitioned ? "" : "ONLY "; }

std::string join_condition(const TablePlan& plan) {
  std::vector<std::string> conditions;
  for (const auto column : plan.locator) {
    const ColumnPlan& key = plan.columns[column];
    const auto value = key.under_domain.empty()
                           ? "s." + key.name
                           : fmt::format("CAST(s.{} AS {})", key.name, key.under_domain);
    conditions.push_back(equals(key, "t.", value));
  }
  return fmt::format("{}", fmt::join(conditions, " AND "));
}

}  // namespace

CopyStatement build_copy(const TablePlan& plan) {
  std::vector<std::size_t> columns;
  for (std::size_t i = 0; i < plan.columns.size(); ++i) {
    if (plan.columns[i].writable) columns.push_back(i);
  }
  return copy_into(plan.target, plan, std::move(columns));
}

StagedStatement build_staged_update(const TablePlan& plan, const std::string& unchanged,
                                    const std::string& stage) {
  std::vector<std::size_t> columns;
  std::vector<std::string> assignments;
  for (std::size_t i = 0; i < plan.columns.size(); ++i) {
    const ColumnPlan& column = plan.columns[i];
    if (unchanged[i] == 'u') continue;
    columns.push_back(i);
    if (column.writable && !column.identity_always && !column.locates)
      assignments.push_back(fmt::format("{0} = s.{0}", column.name));
  }
  auto statement = staged(plan, std::move(columns), stage);
  if (assignments.empty()) return statement;
  statement.change =
      fmt::format("UPDATE {}{} AS t SET {} FROM pg_temp.{} AS s WHERE {}", only(plan), plan.target,
                  fmt::join(assignments, ", "), stage, join_condition(plan));
  return statement;
}

StagedStatement build_staged_delete(const TablePlan& plan, const std::string& stage) {
  auto statement = staged(plan, plan.locator, stage);
  statement.change = fmt::format("DELETE FROM {}{} AS t USING pg_temp.{} AS s WHERE {}", only(plan),
                                 plan.target, stage, join_condition(plan));
  return statement;
}

std::string set_join(JoinBy join) {
  if (join == JoinBy::kIndex)
    return "SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; ";
  return "SET LOCAL enable_seqscan = on; SET LOCAL enable_nestloop = off; SET LOCAL "
         "enable_mergejoin = off; ";
}

std::string reset_join() {
  return "; SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = on; SET LOCAL "
         "enable_mergejoin = on; SET LOCAL enable_nestloop = on";
}

}  // namespace bitacora::apply
