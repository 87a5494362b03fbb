#include "apply/target_rules.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "proto/relation.h"

namespace bitacora::apply {
namespace {

using proto::quoted_name;

std::string literal(const std::string& value) {
  std::string sql = value.find('\\') == std::string::npos ? "'" : " E'";
  for (const char c : value) {
    if (c == '\'' || c == '\\') sql += c;
    sql += c;
  }
  return sql + "'";
}

// Some column has a constant in both, and not the same one.
bool told_apart(const TableRule& a, const TableRule& b) {
  return std::any_of(a.constants.begin(), a.constants.end(), [&](const auto& constant) {
    const auto other = b.constants.find(constant.first);
    return other != b.constants.end() && other->second != constant.second;
  });
}

Error called_twice(const pb::Relation& source, const std::string& one, const std::string& other,
                   const std::string& target) {
  return {ErrorCode::kConfiguration,
          fmt::format("[table.'{}.{}']: {} and {} would both be {} on the standby", source.schema(),
                      source.name(), one, other, quoted_name(target)),
          "give one of them another name, or add it to leave_out"};
}

Error key_left_out(const pb::Relation& source, const std::string& column) {
  return {ErrorCode::kConfiguration,
          fmt::format("[table.'{}.{}']: leave_out has {}, which is part of the replica identity: "
                      "without it no row is found",
                      source.schema(), source.name(), quoted_name(column)),
          "keep it, or have the master use another identity: ALTER TABLE ... REPLICA IDENTITY"};
}

bool has_column(const pb::Relation& relation, const std::string& name) {
  return std::any_of(relation.columns().begin(), relation.columns().end(),
                     [&](const pb::Column& column) { return column.name() == name; });
}

}  // namespace

bool TargetRelation::reshaped(const pb::Relation& source) const {
  return !constants.empty() || sources.size() != static_cast<std::size_t>(source.columns_size());
}

void TargetRules::add(TableRule rule) {
  const auto source = rule.source;
  tables_.insert_or_assign(source, std::move(rule));
}

const TableRule* TargetRules::find(const std::string& schema, const std::string& table) const {
  const auto found = tables_.find({schema, table});
  return found == tables_.end() ? nullptr : &found->second;
}

std::string TargetRules::schema(const std::string& of_master) const {
  const auto renamed = schemas_.find(of_master);
  return renamed == schemas_.end() ? of_master : renamed->second;
}

std::string TargetRules::column(const std::string& schema, const std::string& table,
                                const std::string& of_master) const {
  const auto* rule = find(schema, table);
  if (rule == nullptr) return of_master;
  if (rule->left_out.contains(of_master)) return {};
  const auto renamed = rule->columns.find(of_master);
  return renamed == rule->columns.end() ? of_master : renamed->second;
}

TargetName TargetRules::target(const TableRule& rule) const {
  return rule.to ? *rule.to : TargetName{schema(rule.source.schema), rule.source.table};
}

TargetName TargetRules::target(const std::string& schema, const std::string& table) const {
  const auto* rule = find(schema, table);
  return rule != nullptr ? target(*rule) : TargetName{this->schema(schema), table};
}

bool TargetRules::renames(const std::string& schema, const std::string& table) const {
  return target(schema, table) != TargetName{schema, table};
}

// Rows of others here, or of other masters, whose constants are their receivers' to choose.
bool TargetRules::mingles(const TableRule& rule) const {
  if (!rule.shared) return false;
  if (rule.constants.empty()) return true;
  return std::any_of(tables_.begin(), tables_.end(), [&](const auto& entry) {
    const TableRule& other = entry.second;
    return &other != &rule && target(other) == target(rule) && !told_apart(rule, other);
  });
}

Result<TargetRelation> TargetRules::shape(const pb::Relation& source) const {
  static const TableRule kNone;
  const auto* found = find(source.schema(), source.name());
  const TableRule& rule = found != nullptr ? *found : kNone;
  const auto name = target(source.schema(), source.name());
  TargetRelation target;
  target.relation = source;
  target.relation.set_schema(name.schema);
  target.relation.set_name(name.table);
  target.relation.clear_columns();
  target.mingled = mingles(rule);
  std::map<std::string, std::string> taken;  // the standby's name, by what
  bool keyed = false;
  for (int i = 0; i < source.columns_size(); ++i) {
    const auto& column = source.columns(i);
    if (rule.left_out.contains(column.name())) {
      if (column.key() && source.replica_identity() != pb::REPLICA_IDENTITY_FULL)
        return key_left_out(source, column.name());
      continue;
    }
    auto* added = target.relation.add_columns();
    *added = column;
    const auto renamed = rule.columns.find(column.name());
    if (renamed != rule.columns.end()) added->set_name(renamed->second);
    const auto what = "column " + quoted_name(column.name());
    const auto [other, is_free] = taken.emplace(added->name(), what);
    if (!is_free) return called_twice(source, other->second, what, added->name());
    keyed |= column.key();
    target.sources.push_back(static_cast<std::size_t>(i));
  }
  for (const auto& [column, value] : rule.constants) {
    const auto [other, is_free] = taken.emplace(column, "a constant");
    if (!is_free) return called_twice(source, other->second, "a constant", column);
    auto* added = target.relation.add_columns();
    added->set_name(column);
    added->set_type_modifier(-1);
    added->set_key(keyed);  // finds this table's rows only
    target.constants.push_back(value);
  }
  return target;
}

std::string TargetRules::own_rows(const std::string& schema, const std::string& table) const {
  const auto* rule = find(schema, table);
  if (rule == nullptr) return {};
  std::vector<std::string> conditions;
  for (const auto& [column, value] : rule->constants)
    conditions.push_back(fmt::format("{} = {}", proto::sql_identifier(column), literal(value)));
  return fmt::format("{}", fmt::join(conditions, " AND "));
}

bool TargetRules::may_share(const TargetName& a, const TargetName& b) const {
  const auto* rule_a = find(a.schema, a.table);
  const auto* rule_b = find(b.schema, b.table);
  return rule_a != nullptr && rule_b != nullptr && rule_a->shared && rule_b->shared;
}

bool TargetRules::shares(const std::string& schema, const std::string& table) const {
  const auto* rule = find(schema, table);
  return rule != nullptr && rule->shared;
}

bool TargetRules::mingles(const std::string& schema, const std::string& table) const {
  const auto* rule = find(schema, table);
  return rule != nullptr && mingles(*rule);
}

std::vector<TargetName> TargetRules::mingled() const {
  std::vector<TargetName> sources;
  for (const auto& [source, rule] : tables_) {
    if (mingles(rule)) sources.push_back(source);
  }
  return sources;
}

std::vector<std::string> TargetRules::renamed_patterns() const {
  std::vector<std::string> patterns;
  for (const auto& [from, to] : schemas_) {
    if (from != to) patterns.push_back(quoted_name(from) + ".*");
  }
  for (const auto& [source, rule] : tables_) {
    if (target(rule) != source)
      patterns.push_back(proto::qualified_name(source.schema, source.table));
  }
  return patterns;
}

std::vector<std::string> TargetRules::unused(const std::vector<pb::Relation>& relations) const {
  std::vector<std::string> texts;
  for (const auto& [from, to] : schemas_) {
    const bool used = std::any_of(relations.begin(), relations.end(),
                                  [&](const auto& each) { return each.schema() == from; });
    if (!used) texts.push_back(fmt::format("[schemas] {}", from));
  }
  for (const auto& [source, rule] : tables_) {
    const auto text = fmt::format("[table.'{}.{}']", source.schema, source.table);
    const auto relation = std::find_if(relations.begin(), relations.end(), [&](const auto& each) {
      return each.schema() == source.schema && each.name() == source.table;
    });
    if (relation == relations.end()) {
      texts.push_back(text);
      continue;
    }
    for (const auto& [column, to] : rule.columns) {
      if (!has_column(*relation, column)) texts.push_back(text + " columns " + column);
    }
    for (const auto& column : rule.left_out) {
      if (!has_column(*relation, column)) texts.push_back(text + " leave_out " + column);
    }
  }
  return texts;
}

}  // namespace bitacora::apply
