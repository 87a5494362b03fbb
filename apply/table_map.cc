#include "apply/table_map.h"

#include <fmt/format.h>

#include "proto/relation.h"

namespace bitacora::apply {

bool TableMap::knows(const pb::Relation& relation) const {
  const auto known = current_.find(relation.oid());
  return known != current_.end() &&
         known->second->relation.SerializeAsString() == relation.SerializeAsString();
}

void TableMap::describe(const pb::Relation& relation) {
  // Every connection describes its relations again: the same description keeps the plan and its
  // statements.
  if (knows(relation)) return;
  auto table = std::make_unique<MappedTable>();
  table->relation = relation;
  const auto name = proto::qualified_name(relation);
  table->taken = scope_.tables.matches(relation.schema(), relation.name()) &&
                 !scope_.left_out.contains(name) && (!scope_.only || scope_.only->contains(name));
  const auto begins = scope_.begins.find(name);
  if (begins != scope_.begins.end()) table->begins = begins->second;
  table->text_columns.assign(static_cast<std::size_t>(relation.columns_size()), 'b');
  current_[relation.oid()] = table.get();
  all_.push_back(std::move(table));
}

Result<MappedTable*> TableMap::table(std::uint32_t relation_oid) {
  const auto found = current_.find(relation_oid);
  if (found == current_.end()) {
    return Error{ErrorCode::kMaster,
                 fmt::format("a change of relation {} came without its description", relation_oid),
                 "restart the sender; if it happens again, report it"};
  }
  MappedTable& table = *found->second;
  if (table.taken && !table.planned) RETURN_IF_ERROR(plan(table));
  return &table;
}

Result<void> TableMap::plan(MappedTable& table) {
  const auto& relation = table.relation;
  ASSIGN_OR_RETURN(const auto target, catalog_.table(relation.schema(), relation.name()));
  if (!target) {
    missing_ = relation;
    const auto name = proto::qualified_name(relation);
    return Error{
        ErrorCode::kStandby, fmt::format("the standby has no table {}", name),
        fmt::format("create it as on the master (pg_dump --schema-only -t '{}'; at a first "
                    "start --create-schema does it), or leave it out with --tables "
                    "'!{}.{}'",
                    name, relation.schema(), relation.name())};
  }
  ASSIGN_OR_RETURN(const auto types, source_types(relation));
  ASSIGN_OR_RETURN(table.plan, plan_table(relation, types, *target));
  table.planned = true;
  return {};
}

Result<std::vector<SourceType>> TableMap::source_types(const pb::Relation& relation) {
  std::vector<SourceType> types;
  for (const auto& column : relation.columns()) {
    SourceType& source = types.emplace_back();
    if (column.type_oid() < proto::kFirstGenbkiOid) {
      source.standby_oid = column.type_oid();
      continue;
    }
    const auto type = types_.find(column.type_oid());
    if (type == types_.end()) {
      return Error{ErrorCode::kMaster, fmt::format("the type of {}.{} came without its description",
                                                   proto::qualified_name(relation), column.name())};
    }
    source.schema = type->second.schema();
    source.name = type->second.name();
    ASSIGN_OR_RETURN(source.standby_oid, catalog_.type(source.schema, source.name));
  }
  return types;
}

}  // namespace bitacora::apply
