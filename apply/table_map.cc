#include "apply/table_map.h"

#include <fmt/format.h>

#include "proto/relation.h"

namespace bitacora::apply {

bool TableMap::knows(const pb::Relation& relation) const {
  const auto known = current_.find(relation.oid());
  return known != current_.end() &&
         known->second->source.SerializeAsString() == relation.SerializeAsString();
}

void TableMap::describe(const pb::Relation& relation) {
  // Every connection describes its relations again: the same description keeps the plan and its
  // statements.
  if (knows(relation)) return;
  auto table = std::make_unique<MappedTable>();
  table->source = relation;
  table->relation = relation;
  const auto name = proto::qualified_name(relation);
  table->wanted = scope_.tables.matches(relation.schema(), relation.name());
  table->taken = table->wanted && !scope_.left_out.contains(name) &&
                 (!scope_.only || scope_.only->contains(name));
  const auto begins = scope_.begins.find(name);
  if (begins != scope_.begins.end()) table->begins = begins->second;
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
  const auto& source = table.source;
  ASSIGN_OR_RETURN(const auto shaped, scope_.targets.shape(source));
  table.relation = shaped.relation;
  RETURN_IF_ERROR(check_alone(table));
  ASSIGN_OR_RETURN(const auto target,
                   catalog_.table(shaped.relation.schema(), shaped.relation.name()));
  if (!target) return no_table(table);
  std::vector<SourceType> types;
  RETURN_IF_ERROR(shape(table, shaped, *target, types));
  ASSIGN_OR_RETURN(table.plan, plan_table(table.relation, types, *target,
                                          static_cast<int>(shaped.constants.size())));
  table.plan.own_rows = scope_.targets.own_rows(source.schema(), source.name());
  if (shaped.mingled) table.plan.mingle();
  table.text_columns.assign(static_cast<std::size_t>(table.relation.columns_size()), 'b');
  if (scope_.claim) RETURN_IF_ERROR(scope_.claim({{source.schema(), source.name()}, source.oid()}));
  table.planned = true;
  return {};
}

Error TableMap::no_table(const MappedTable& table) {
  const auto& source = table.source;
  const auto name = proto::qualified_name(source);
  if (scope_.targets.renames(source.schema(), source.name())) {
    return {ErrorCode::kStandby,
            fmt::format("the standby has no table {}, which {} goes to",
                        proto::qualified_name(table.relation), name),
            "create it there: --create-schema makes tables under the master's names only"};
  }
  missing_ = source;
  return {ErrorCode::kStandby, fmt::format("the standby has no table {}", name),
          fmt::format("create it as on the master (pg_dump --schema-only -t '{}'; at a first "
                      "start --create-schema does it), or leave it out with --tables "
                      "'!{}.{}'",
                      name, source.schema(), source.name())};
}

// Two tables of the master in one of the standby's are a mistake, unless both rules say so.
Result<void> TableMap::check_alone(const MappedTable& table) const {
  const TargetName name{table.source.schema(), table.source.name()};
  for (const auto& [oid, other] : current_) {
    const TargetName other_name{other->source.schema(), other->source.name()};
    if (other == &table || !other->taken) continue;
    RETURN_IF_ERROR(check_apart(scope_.targets, name, other_name));
  }
  return {};
}

// The constants get their types, and rows that have to be rewritten what does it.
Result<void> TableMap::shape(MappedTable& table, const TargetRelation& shaped,
                             const StandbyTable& target, std::vector<SourceType>& types) {
  std::vector<ConstantValue> values;
  for (int i = 0; i < table.relation.columns_size(); ++i) {
    auto& column = *table.relation.mutable_columns(i);
    const auto at = static_cast<std::size_t>(i);
    if (at < shaped.sources.size()) {
      ASSIGN_OR_RETURN(types.emplace_back(), source_type(table.source, column));
      continue;
    }
    const auto* of_standby = target.find(column.name());
    types.emplace_back();
    if (of_standby == nullptr) continue;  // refused when the table is planned
    column.set_type_oid(of_standby->base_oid);
    types.back() = {of_standby->base_schema, of_standby->base_name, of_standby->base_oid};
    const auto& text = shaped.constants[at - shaped.sources.size()];
    ASSIGN_OR_RETURN(auto bytes, catalog_.binary_value(target, *of_standby, text));
    values.push_back(bytes ? ConstantValue{proto::ValueKind::kBinary, *std::move(bytes)}
                           : ConstantValue{proto::ValueKind::kText, text});
  }
  table.sources = shaped.sources;
  table.constants = shaped.constants;
  if (shaped.reshaped(table.source)) {
    table.shaper.emplace(shaped.sources, std::move(values),
                         static_cast<std::size_t>(table.source.columns_size()));
  }
  return {};
}

Result<SourceType> TableMap::source_type(const pb::Relation& relation, const pb::Column& column) {
  SourceType source;
  if (column.type_oid() < proto::kFirstGenbkiOid) {
    source.standby_oid = column.type_oid();
    return source;
  }
  const auto type = types_.find(column.type_oid());
  if (type == types_.end()) {
    return Error{ErrorCode::kMaster, fmt::format("the type of {}.{} came without its description",
                                                 proto::qualified_name(relation), column.name())};
  }
  source.schema = type->second.schema();
  source.name = type->second.name();
  ASSIGN_OR_RETURN(source.standby_oid,
                   catalog_.type(scope_.targets.schema(source.schema), source.name));
  if (!source.standby_oid) {
    ASSIGN_OR_RETURN(source.standby_oid, catalog_.type(source.schema, source.name));
  }
  return source;
}

Result<std::vector<std::string>> TableMap::roots_of(const std::vector<const TablePlan*>& plans) {
  std::vector<std::string> emptied;
  for (const auto* plan : plans) {
    if (plan->own_rows.empty()) emptied.push_back(plan->target);
  }
  return catalog_.emptied_roots(emptied);
}

}  // namespace bitacora::apply
