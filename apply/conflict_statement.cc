#include "apply/conflict_statement.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace bitacora::apply {
namespace {

constexpr const char* kUniqueIndexes = R"(
SELECT ic.relname, pg_catalog.format('"%s"."%s"', replace(tn.nspname, '"', '""'),
                                     replace(tc.relname, '"', '""')), a.attnum IS NOT NULL,
       coalesce('"' || replace(a.attname, '"', '""') || '"',
                pg_catalog.pg_get_indexdef(i.indexrelid, k.ord, false)),
       pg_catalog.format('OPERATOR(%I.%s)', opn.nspname, o.oprname),
       pg_catalog.pg_get_expr(i.indpred, i.indrelid),
       coalesce((pg_catalog.to_jsonb(i) ->> 'indnullsnotdistinct')::bool, false)
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class ic ON ic.oid = i.indexrelid
JOIN pg_catalog.pg_namespace n ON n.oid = ic.relnamespace
JOIN pg_catalog.pg_class tc ON tc.oid = i.indrelid
JOIN pg_catalog.pg_namespace tn ON tn.oid = tc.relnamespace
LEFT JOIN pg_catalog.pg_constraint x ON x.conindid = i.indexrelid AND x.contype = 'x'
CROSS JOIN LATERAL pg_catalog.generate_series(1, i.indnkeyatts) k (ord)
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k.ord - 1]
  AND a.attnum > 0
JOIN pg_catalog.pg_opclass c ON c.oid = i.indclass[k.ord - 1]
JOIN pg_catalog.pg_operator o ON o.oid = CASE WHEN x.oid IS NOT NULL THEN x.conexclop[k.ord]
  ELSE (SELECT s.amopopr FROM pg_catalog.pg_amop s WHERE s.amopfamily = c.opcfamily
        AND s.amoplefttype = c.opcintype AND s.amoprighttype = c.opcintype AND s.amopstrategy = 3) END
JOIN pg_catalog.pg_namespace opn ON opn.oid = o.oprnamespace
WHERE (i.indisunique OR i.indisexclusion) AND i.indisready
  AND ((i.indrelid = $1::pg_catalog.regclass AND i.indimmediate)
       OR (n.nspname = $2 AND ic.relname = $3 AND NOT EXISTS (
             SELECT FROM pg_catalog.pg_partition_ancestors(i.indexrelid) r (oid)
             JOIN pg_catalog.pg_index p ON p.indexrelid = r.oid
             WHERE p.indrelid = $1::pg_catalog.regclass AND p.indimmediate)))
ORDER BY i.indisprimary DESC, i.indexrelid, k.ord)";

std::string joined(const std::vector<std::string>& parts, const char* separator) {
  return fmt::format("{}", fmt::join(parts, separator));
}

class Builder {
 public:
  Builder(const TablePlan& plan, const RowShape& shape) : plan_(plan), shape_(shape) {}

  RowStatement description(const std::string& known) {
    std::vector<std::string> columns;
    std::vector<std::string> key;
    for (std::size_t i = 0; i < plan_.columns.size(); ++i) {
      const auto& column = plan_.columns[i];
      const bool unsent = known[i] == '-' && shape_.columns[i] != 'u';
      if (unsent) continue;  // a key alone
      columns.push_back(
          known[i] == '-'
              ? R"('{"unchanged_toast": true}'::pg_catalog.jsonb AS )" + column.name
              : fmt::format("{} AS {}", parameter(known[i] == 'o', i, false), column.name));
    }
    for (std::size_t i = 0; i < plan_.columns.size(); ++i) {
      const auto& column = plan_.columns[i];
      const bool identifies = plan_.locator.empty() || column.locates;
      if (!identifies) continue;
      const bool from_old = shape_.has_old;
      if (!from_old && known[i] == '-') continue;
      key.push_back(fmt::format("{} AS {}", parameter(from_old, i, false), column.name));
    }
    statement_.sql = fmt::format(
        "SELECT (SELECT pg_catalog.to_jsonb(k) FROM (SELECT {}) k),"
        " (SELECT pg_catalog.to_jsonb(r) FROM (SELECT {}) r)",
        joined(key, ", "), joined(columns, ", "));
    return std::move(statement_);
  }

  // The new row has a scope of its own: a column it lacked would else be the standby row's.
  RowStatement collisions(const std::vector<UniqueIndex>& indexes) {
    std::vector<std::string> values;
    std::vector<std::string> rows;
    for (const auto& index : indexes) {
      if (!is_known(index)) continue;
      const auto scope = fmt::format("values_{}", values.size());
      values.push_back(values_of(index, scope));
      rows.push_back(rows_of(index, scope));
    }
    if (rows.empty()) return {};
    statement_.sql = fmt::format("WITH remote AS ({}), {} {}", remote(), joined(values, ", "),
                                 joined(rows, " UNION ALL "));
    return std::move(statement_);
  }

 private:
  std::string parameter(bool from_old, std::size_t column, bool cast) {
    const ColumnPlan& plan = plan_.columns[column];
    const bool text = shape_.columns[column] == 't';
    statement_.types.push_back(text ? plan.text_oid : plan.binary_oid);
    statement_.parameters.push_back({from_old, column});
    const auto placeholder = fmt::format("${}", statement_.parameters.size());
    return text || plan.cast.empty() || !cast
               ? placeholder
               : fmt::format("CAST({} AS {})", placeholder, plan.cast);
  }

  std::string only() const { return plan_.partitioned ? "" : "ONLY "; }

  // What the standby will hold: an UPDATE leaves what was not sent as it is.
  std::string remote() {
    const bool updates = shape_.action != RowAction::kInsert;
    std::vector<std::string> columns;
    for (std::size_t i = 0; i < plan_.columns.size(); ++i) {
      const auto& name = plan_.columns[i].name;
      const bool kept = updates && shape_.columns[i] == 'u';
      columns.push_back(kept ? "cur." + name
                             : fmt::format("{} AS {}", parameter(false, i, true), name));
    }
    for (const auto& name : plan_.carried) {
      columns.push_back(updates ? "cur." + name
                                : fmt::format("(SELECT x.{} FROM {} AS x LIMIT 0) AS {}", name,
                                              plan_.target, name));
    }
    const std::string selected = "SELECT " + joined(columns, ", ");
    return updates ? fmt::format("{} FROM {}{} AS cur WHERE (cur.tableoid, cur.ctid) = ({})",
                                 selected, only(), plan_.target, current())
                   : selected;
  }

  std::string current() {
    RowShape shape = shape_;
    shape.action = RowAction::kFind;
    shape.asserted = false;
    auto found = build_row_statement(plan_, shape, statement_.parameters.size());
    statement_.types.insert(statement_.types.end(), found.types.begin(), found.types.end());
    statement_.parameters.insert(statement_.parameters.end(), found.parameters.begin(),
                                 found.parameters.end());
    return "SELECT f.tableoid, f.ctid FROM (" + found.sql + ") f LIMIT 1";
  }

  bool is_known(const UniqueIndex& index) const {
    return std::all_of(index.parts.begin(), index.parts.end(), [&](const auto& part) {
      return !part.plain || column(part.expression) != nullptr ||
             std::find(plan_.carried.begin(), plan_.carried.end(), part.expression) !=
                 plan_.carried.end();
    });
  }

  const ColumnPlan* column(const std::string& expression) const {
    const auto found =
        std::find_if(plan_.columns.begin(), plan_.columns.end(),
                     [&](const ColumnPlan& candidate) { return candidate.name == expression; });
    return found == plan_.columns.end() ? nullptr : &*found;
  }

  // Operators of enums and ranges do not look through a domain.
  std::string expression(const UniqueIndex::Part& part) const {
    const auto* plain = part.plain ? column(part.expression) : nullptr;
    return plain == nullptr || plain->under_domain.empty()
               ? part.expression
               : fmt::format("CAST({} AS {})", part.expression, plain->under_domain);
  }

  std::string values_of(const UniqueIndex& index, const std::string& scope) const {
    std::vector<std::string> values;
    for (std::size_t i = 0; i < index.parts.size(); ++i)
      values.push_back(fmt::format("{} AS bitacora_value_{}", expression(index.parts[i]), i));
    return fmt::format("{} AS (SELECT {} FROM remote{})", scope, joined(values, ", "),
                       index.predicate.empty() ? "" : " WHERE " + index.predicate);
  }

  std::string rows_of(const UniqueIndex& index, const std::string& scope) const {
    std::vector<std::string> conditions;
    for (std::size_t i = 0; i < index.parts.size(); ++i) {
      const auto stored = expression(index.parts[i]);
      const auto value = fmt::format("{}.bitacora_value_{}", scope, i);
      const auto equal = fmt::format("({}) {} {}", stored, index.parts[i].op, value);
      conditions.push_back(
          index.nulls_collide
              ? fmt::format("({} OR (({}) IS NULL AND {} IS NULL))", equal, stored, value)
              : equal);
    }
    if (!index.predicate.empty()) conditions.push_back("(" + index.predicate + ")");
    const bool own = index.table == plan_.target;
    return fmt::format(
        "SELECT {}::pg_catalog.text, t.tableoid, t.ctid, pg_catalog.to_jsonb(t) FROM {}{} AS t, {}"
        " WHERE {}",
        quoted_literal(index.name), own ? only() : "", index.table, scope,
        joined(conditions, " AND "));
  }

  static std::string quoted_literal(const std::string& text) {
    std::string quoted = "'";
    for (const char c : text) quoted.append(c == '\'' ? 2 : 1, c);
    return quoted + "'";
  }

  const TablePlan& plan_;
  const RowShape& shape_;
  RowStatement statement_;
};

}  // namespace

std::string unique_indexes_sql() { return kUniqueIndexes; }

std::vector<UniqueIndex> read_unique_indexes(
    const std::vector<std::vector<std::optional<std::string>>>& lines) {
  std::vector<UniqueIndex> indexes;
  for (const auto& line : lines) {
    const auto name = line[0].value_or("");
    const auto table = line[1].value_or("");
    if (indexes.empty() || indexes.back().name != name || indexes.back().table != table)
      indexes.push_back({name, table, {}, line[5].value_or(""), line[6] == "t"});
    indexes.back().parts.push_back({line[2] == "t", line[3].value_or(""), line[4].value_or("")});
  }
  return indexes;
}

RowStatement build_description(const TablePlan& plan, const RowShape& shape,
                               const std::string& known) {
  return Builder(plan, shape).description(known);
}

RowStatement build_collisions(const TablePlan& plan, const RowShape& shape,
                              const std::vector<UniqueIndex>& indexes) {
  return Builder(plan, shape).collisions(indexes);
}

}  // namespace bitacora::apply
