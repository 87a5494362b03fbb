#include "apply/row_statement.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace bitacora::apply {
namespace {

using proto::ValueKind;

std::string joined(const std::vector<std::string>& parts, const char* separator) {
  return fmt::format("{}", fmt::join(parts, separator));
}

bool changes(const proto::Value& before, const proto::Value& after) {
  return after.kind != ValueKind::kUnchanged &&
         (before.kind != after.kind || before.bytes != after.bytes);
}

class Builder {
 public:
  Builder(const TablePlan& plan, const RowShape& shape, std::size_t parameters_before)
      : plan_(plan), shape_(shape), parameters_before_(parameters_before) {}

  RowStatement build() {
    std::string sql = [&] {
      switch (shape_.action) {
        case RowAction::kInsert:
          return insert();
        case RowAction::kUpdate:
          return update();
        case RowAction::kReplace:
          return replace();
        case RowAction::kDelete:
          return "DELETE FROM " + only() + plan_.target + " AS t WHERE " + where();
        case RowAction::kFind:
          return "SELECT t.tableoid, t.ctid, pg_catalog.to_jsonb(t) FROM " + only() + plan_.target +
                 " AS t WHERE " + where();
        case RowAction::kNothing:
          break;
      }
      return std::string();
    }();
    if (shape_.asserted) sql = asserted(sql);
    statement_.sql = std::move(sql);
    return std::move(statement_);
  }

 private:
  // $n with the value of one column, cast where the standby's column is of another type.
  std::string parameter(bool from_old, std::size_t column) {
    const ColumnPlan& plan = plan_.columns[column];
    const bool text = shape_.columns[column] == 't';
    statement_.types.push_back(text ? plan.text_oid : plan.binary_oid);
    statement_.parameters.push_back({from_old, column});
    const auto placeholder = fmt::format("${}", parameters_before_ + statement_.parameters.size());
    return text || plan.cast.empty() ? placeholder
                                     : fmt::format("CAST({} AS {})", placeholder, plan.cast);
  }

  // A table's own rows; what its inheritance children hold is theirs. A partitioned table has none
  // but its partitions'.
  std::string only() const { return plan_.partitioned ? "" : "ONLY "; }

  std::string overriding() const {
    const bool needed = std::any_of(plan_.columns.begin(), plan_.columns.end(),
                                    [](const auto& c) { return c.identity_always; });
    return needed ? " OVERRIDING SYSTEM VALUE" : "";
  }

  std::string insert() {
    std::vector<std::string> names;
    std::vector<std::string> values;
    for (std::size_t i = 0; i < plan_.columns.size(); ++i) {
      if (!plan_.columns[i].writable) continue;
      names.push_back(plan_.columns[i].name);
      values.push_back(parameter(false, i));
    }
    if (names.empty()) return "INSERT INTO " + plan_.target + " DEFAULT VALUES";
    return fmt::format("INSERT INTO {} ({}){} VALUES ({})", plan_.target, joined(names, ", "),
                       overriding(), joined(values, ", "));
  }

  // Whether an UPDATE has to write this column: it was sent, and it is not known to be the same as
  // before.
  bool sets(std::size_t column) const {
    const ColumnPlan& plan = plan_.columns[column];
    const bool unchanged_key = plan.locates && !shape_.has_old;
    return plan.writable && !plan.identity_always && shape_.columns[column] != 'u' &&
           !unchanged_key;
  }

  std::string update() {
    std::vector<std::string> assignments;
    for (std::size_t i = 0; i < plan_.columns.size(); ++i) {
      if (sets(i)) assignments.push_back(plan_.columns[i].name + " = " + parameter(false, i));
    }
    return fmt::format("UPDATE {}{} AS t SET {} WHERE {}", only(), plan_.target,
                       joined(assignments, ", "), where());
  }

  std::string replace() {
    const std::string gone = fmt::format(
        "WITH gone AS (DELETE FROM {}{} AS t WHERE {} RETURNING *)", only(), plan_.target, where());
    std::vector<std::string> names;
    std::vector<std::string> values;
    for (std::size_t i = 0; i < plan_.columns.size(); ++i) {
      if (!plan_.columns[i].writable) continue;
      names.push_back(plan_.columns[i].name);
      values.push_back(shape_.columns[i] == 'u' ? "gone." + plan_.columns[i].name
                                                : parameter(false, i));
    }
    for (const auto& name : plan_.carried) {
      names.push_back(name);
      values.push_back("gone." + name);
    }
    const std::string insert =
        fmt::format("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM gone", plan_.target,
                    joined(names, ", "), joined(values, ", "));
    return shape_.asserted ? gone + ", done AS (" + insert + " RETURNING 1)" : gone + " " + insert;
  }

  std::string where() {
    if (plan_.locator.empty()) return whole_row();
    std::vector<std::string> conditions;
    for (const auto column : plan_.locator) {
      conditions.push_back(equals(plan_.columns[column], "t.", parameter(shape_.has_old, column)));
    }
    return joined(conditions, " AND ");
  }

  // Without a key exactly one of the equal rows is taken, and first of all one that is the same
  // byte for byte: 1.0 and 1.00 are equal, and so are two spellings in citext.
  std::string whole_row() {
    std::vector<std::string> conditions;
    std::vector<std::string> stored;
    std::vector<std::string> sent;
    for (std::size_t i = 0; i < plan_.columns.size(); ++i) {
      const ColumnPlan& column = plan_.columns[i];
      if (!column.writable) continue;
      const std::string value = parameter(true, i);
      conditions.push_back(fmt::format("({} OR (o.{} IS NULL AND {} IS NULL))",
                                       equals(column, "o.", value), column.name, value));
      stored.push_back("o." + column.name);
      sent.push_back(fmt::format("CAST({} AS {})", value, column.type));
    }
    if (conditions.empty()) conditions.push_back("true");
    return fmt::format(
        "(t.tableoid, t.ctid) = (SELECT o.tableoid, o.ctid FROM {}{} AS o WHERE {}"
        " ORDER BY pg_catalog.record_image_eq(ROW({}), ROW({})) DESC LIMIT 1)",
        only(), plan_.target, joined(conditions, " AND "), joined(stored, ", "),
        joined(sent, ", "));
  }

  // A negative length is an error (22011), any other number of rows than one makes it negative: so
  // a group can be sent with its COMMIT in one go and still not commit when a row is missing.
  std::string asserted(const std::string& sql) const {
    const std::string count = " SELECT substr('', 1, (-abs(count(*) - 1))::integer) FROM done";
    if (shape_.action == RowAction::kReplace) return sql + count;
    return "WITH done AS (" + sql + " RETURNING 1)" + count;
  }

  const TablePlan& plan_;
  const RowShape& shape_;
  const std::size_t parameters_before_;
  RowStatement statement_;
};

RowAction action_of(const TablePlan& plan, pb::RowOperation operation, const proto::Row& row) {
  if (operation == pb::INSERT) return RowAction::kInsert;
  if (!proto::has_new_tuple(operation)) return RowAction::kDelete;
  if (!proto::has_old_tuple(operation))
    return plan.loose_identity_always ? RowAction::kReplace : RowAction::kUpdate;
  for (std::size_t i = 0; i < plan.columns.size(); ++i) {
    if (!plan.columns[i].identity_always) continue;
    // A key tuple says nothing of columns outside the key.
    const bool known = plan.columns[i].key;
    if (!known || changes(row.old_tuple[i], row.new_tuple[i])) return RowAction::kReplace;
  }
  return RowAction::kUpdate;
}

std::string rows_of(const TablePlan& plan) {
  return (plan.partitioned ? "" : "ONLY ") + plan.target;
}

}  // namespace

RowShape shape_of(const TablePlan& plan, pb::RowOperation operation, const proto::Row& row,
                  const std::string& text_columns, bool asserted) {
  RowShape shape{action_of(plan, operation, row), proto::has_old_tuple(operation), false,
                 text_columns};
  for (std::size_t i = 0; i < row.new_tuple.size(); ++i) {
    if (row.new_tuple[i].kind == ValueKind::kUnchanged) shape.columns[i] = 'u';
  }
  if (shape.action == RowAction::kUpdate) {
    bool anything = false;
    for (std::size_t i = 0; i < plan.columns.size(); ++i) {
      const auto& column = plan.columns[i];
      anything |= column.writable && !column.identity_always && shape.columns[i] != 'u' &&
                  !(column.locates && !shape.has_old);
    }
    if (!anything) shape.action = RowAction::kNothing;
  }
  shape.asserted =
      asserted && shape.action != RowAction::kInsert && shape.action != RowAction::kNothing;
  return shape;
}

RowStatement build_row_statement(const TablePlan& plan, const RowShape& shape,
                                 std::size_t parameters_before) {
  return Builder(plan, shape, parameters_before).build();
}

std::string equals(const ColumnPlan& column, const std::string& alias, const std::string& value) {
  // Operators of enums and ranges do not look through a domain; those that do lose nothing by the
  // cast.
  const std::string stored =
      column.under_domain.empty()
          ? alias + column.name
          : fmt::format("CAST({}{} AS {})", alias, column.name, column.under_domain);
  if (!column.equality.empty()) return fmt::format("{} {} {}", stored, column.equality, value);
  return fmt::format("CAST({}{} AS text) = CAST({} AS text)", alias, column.name, value);
}

std::vector<std::string> build_truncate(const Truncation& truncation) {
  std::vector<std::string> tables;
  std::vector<std::string> deletes;
  bool keeps_rows = truncation.partial;
  for (const auto* plan : truncation.plans) {
    keeps_rows |= !plan->own_rows.empty();
    tables.push_back(rows_of(*plan));
    deletes.push_back("DELETE FROM " + rows_of(*plan) +
                      (plan->own_rows.empty() ? "" : " WHERE " + plan->own_rows));
  }
  if (keeps_rows) return deletes;
  tables.insert(tables.end(), truncation.roots.begin(), truncation.roots.end());
  // Never CASCADE: the master already names every table it emptied, and others on the standby are
  // not ours.
  return {"TRUNCATE " + joined(tables, ", ") +
          (truncation.restart_identity ? " RESTART IDENTITY" : " CONTINUE IDENTITY")};
}

}  // namespace bitacora::apply
