#include "apply/table_plan.h"

#include <algorithm>
#include <array>
#include <set>

#include <fmt/format.h>

#include "proto/relation.h"

namespace bitacora::apply {
namespace {

using proto::quoted_name;
using proto::sql_identifier;

Error misfit(const StandbyTable& table, const std::string& what, const std::string& hint) {
  return {
      ErrorCode::kStandby,
      fmt::format("standby table {}: {}", proto::qualified_name(table.schema, table.name), what),
      hint};
}

Result<void> check_access(const StandbyTable& table) {
  const auto name = proto::qualified_name(table.schema, table.name);
  if (!table.writable) {
    return misfit(
        table, "the role may not write it",
        fmt::format("run on the standby: GRANT INSERT, UPDATE, DELETE ON {} TO <role>", name));
  }
  if (table.row_security) {
    return misfit(table, "row level security would filter what is applied",
                  "use a role with BYPASSRLS or the table's owner");
  }
  return {};
}

bool same_type(const pb::Column& source, const SourceType& type, const StandbyColumn& target) {
  if (source.type_oid() < proto::kFirstGenbkiOid) return source.type_oid() == target.base_oid;
  return target.base_oid >= proto::kFirstGenbkiOid && type.name == target.base_name;
}

Result<ColumnPlan> plan_column(const pb::Column& source, const SourceType& type,
                               const StandbyTable& table) {
  const StandbyColumn* target = table.find(source.name());
  const auto table_name = proto::qualified_name(table.schema, table.name);
  if (target == nullptr) {
    return misfit(table, fmt::format("has no column {}", quoted_name(source.name())),
                  fmt::format("run on the standby: ALTER TABLE {} ADD COLUMN {} ...", table_name,
                              quoted_name(source.name())));
  }
  ColumnPlan plan;
  plan.name = sql_identifier(source.name());
  plan.type = target->type;
  plan.equality = target->equality;
  if (target->type != target->base_type) plan.under_domain = target->base_type;
  plan.key = source.key();
  plan.writable = !target->generated;
  plan.identity_always = target->identity_always;
  plan.text_oid = target->base_oid;
  plan.binary_oid = target->base_oid;
  if (same_type(source, type, *target)) return plan;
  if (!type.standby_oid) {
    return misfit(
        table,
        fmt::format("column {} needs type {}, which the standby does not have",
                    quoted_name(source.name()), proto::qualified_name(type.schema, type.name)),
        "create the type on the standby as it is on the master");
  }
  plan.binary_oid = *type.standby_oid;
  plan.cast = target->base_type;
  return plan;
}

// What finds a row: the master's key; with REPLICA IDENTITY FULL a key of the standby's, if the
// relation has its columns. And the constants, the last columns: another master's row is none of
// ours, whatever its key.
std::vector<std::size_t> locator(const pb::Relation& relation, const StandbyTable& table,
                                 int constants) {
  std::vector<std::size_t> columns;
  const bool full = relation.replica_identity() == pb::REPLICA_IDENTITY_FULL;
  for (int i = 0; i < relation.columns_size(); ++i) {
    const auto& column = relation.columns(i);
    const bool in_key =
        full ? std::find(table.key.begin(), table.key.end(), column.name()) != table.key.end()
             : column.key();
    if (in_key) columns.push_back(static_cast<std::size_t>(i));
  }
  if (full && columns.size() != table.key.size()) return {};
  if (columns.empty()) return columns;
  for (int i = relation.columns_size() - constants; i < relation.columns_size(); ++i) {
    const auto constant = static_cast<std::size_t>(i);
    if (std::find(columns.begin(), columns.end(), constant) == columns.end())
      columns.push_back(constant);
  }
  std::sort(columns.begin(), columns.end());
  return columns;
}

// Whether many rows may be written at once: COPY takes binary values of the columns' own types, and
// what fires once per row must see the rows one by one. Three types do not read back what they send
// when it is empty (see ExactPath).
bool set_wise(const TablePlan& plan, const StandbyTable& table) {
  constexpr std::array<std::uint32_t, 3> kInt2VectorOidVectorTsquery = {22, 30, 3615};
  if (table.fires || plan.loose_identity_always) return false;
  for (const auto& column : table.columns) {
    if (!column.receives) return false;
  }
  bool writes = false;
  for (const auto& column : plan.columns) {
    writes |= column.writable;
    if (!column.cast.empty()) return false;
    if (std::find(kInt2VectorOidVectorTsquery.begin(), kInt2VectorOidVectorTsquery.end(),
                  column.binary_oid) != kInt2VectorOidVectorTsquery.end())
      return false;
  }
  return writes;
}

bool is_indexed(const std::vector<std::size_t>& locator, const pb::Relation& relation,
                const StandbyTable& table) {
  return std::any_of(locator.begin(), locator.end(), [&](std::size_t column) {
    const auto& name = relation.columns(static_cast<int>(column)).name();
    return std::find(table.leading.begin(), table.leading.end(), name) != table.leading.end();
  });
}

bool has_column(const StandbyUnique& unique, const std::string& name) {
  return std::find(unique.columns.begin(), unique.columns.end(), name) != unique.columns.end();
}

// Rows with different keys meet in no unique index that has all of the key's columns.
Reach reach(const TablePlan& plan, const pb::Relation& relation, const StandbyTable& table) {
  if (table.fires || table.checks_others) return Reach::kEverything;
  if (plan.locator.empty()) return table.unique.empty() ? Reach::kKey : Reach::kTable;
  for (const auto& unique : table.unique) {
    if (unique.loose) return Reach::kTable;
  }
  for (const auto column : plan.locator) {
    const auto& name = relation.columns(static_cast<int>(column)).name();
    const bool bytes_decide = plan.columns[column].cast.empty() && table.find(name)->equal_bytes;
    const bool in_all =
        std::all_of(table.unique.begin(), table.unique.end(),
                    [&](const StandbyUnique& unique) { return has_column(unique, name); });
    if (!bytes_decide || !in_all) return Reach::kTable;
  }
  return Reach::kKey;
}

}  // namespace

Result<TablePlan> plan_table(const pb::Relation& relation, const std::vector<SourceType>& types,
                             const StandbyTable& table, int constants) {
  CHECK(types.size() == static_cast<std::size_t>(relation.columns_size()));
  RETURN_IF_ERROR(check_access(table));
  TablePlan plan;
  plan.target = sql_identifier(table.schema) + "." + sql_identifier(table.name);
  plan.partitioned = table.partitioned;
  plan.fires = table.fires;
  std::set<std::string> fed;
  for (int i = 0; i < relation.columns_size(); ++i) {
    ASSIGN_OR_RETURN(auto column,
                     plan_column(relation.columns(i), types[static_cast<std::size_t>(i)], table));
    plan.loose_identity_always |= column.identity_always && !column.key;
    plan.columns.push_back(std::move(column));
    fed.insert(relation.columns(i).name());
  }
  for (const auto& column : table.columns) {
    if (fed.contains(column.name)) continue;
    if (column.required) {
      return misfit(
          table,
          fmt::format("column {} is NOT NULL, has no default, and the master does not send it",
                      quoted_name(column.name)),
          fmt::format("run on the standby: ALTER TABLE {} ALTER COLUMN {} SET DEFAULT ...",
                      proto::qualified_name(table.schema, table.name), quoted_name(column.name)));
    }
    if (!column.generated) plan.carried.push_back(sql_identifier(column.name));
  }
  plan.locator = locator(relation, table, constants);
  for (const auto column : plan.locator) plan.columns[column].locates = true;
  plan.locator_indexed = is_indexed(plan.locator, relation, table);
  plan.set_wise = set_wise(plan, table);
  plan.reach = reach(plan, relation, table);
  return plan;
}

}  // namespace bitacora::apply
