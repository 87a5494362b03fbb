#include "engine/target_sections.h"

#include "engine/config_section.h"
#include "engine/table_name.h"

namespace bitacora::engine {
namespace {

Result<apply::TargetName> table_name(const ConfigSection& section, const std::string& key,
                                     const std::string& text) {
  const auto name = parse_table_name(text);
  if (!name.ok()) return section.bad(key, name.error().message, name.error().hint);
  return apply::TargetName{name->schema(), name->name()};
}

Result<void> read_table(const ConfigSection& section, apply::TargetRules& rules) {
  RETURN_IF_ERROR(section.expect_keys({"to", "columns", "leave_out", "constants", "shared"}));
  apply::TableRule rule;
  ASSIGN_OR_RETURN(rule.source, table_name(section, "", section.key()));
  ASSIGN_OR_RETURN(const auto to, section.text("to"));
  if (to) {
    ASSIGN_OR_RETURN(rule.to, table_name(section, "to", *to));
  }
  ASSIGN_OR_RETURN(const auto columns, section.text_by_key("columns"));
  rule.columns.insert(columns.begin(), columns.end());
  ASSIGN_OR_RETURN(const auto left_out, section.texts("leave_out"));
  if (left_out) rule.left_out.insert(left_out->begin(), left_out->end());
  ASSIGN_OR_RETURN(const auto constants, section.text_by_key("constants"));
  rule.constants.insert(constants.begin(), constants.end());
  ASSIGN_OR_RETURN(const auto shared, section.flag("shared"));
  rule.shared = shared.value_or(false);
  for (const auto& [column, name] : rule.columns) {
    if (rule.left_out.contains(column)) {
      return section.bad("columns", column + " is in leave_out too",
                         "take it out of one of the two");
    }
  }
  rules.add(std::move(rule));
  return {};
}

Result<void> read_schemas(const ConfigSection& section, apply::TargetRules& rules) {
  ASSIGN_OR_RETURN(const auto schemas, section.text_by_key());
  for (const auto& [from, to] : schemas) {
    if (to.empty()) return section.bad(from, "wants a name", from + " = \"other_name\"");
    rules.rename_schema(from, to);
  }
  return {};
}

}  // namespace

ReadSections target_sections(apply::TargetRules& rules) {
  return {
      {"schemas", [&rules](const ConfigSection& section) { return read_schemas(section, rules); }},
      {"table", [&rules](const ConfigSection& section) -> Result<void> {
         ASSIGN_OR_RETURN(const auto tables, section.sections());
         for (const auto& table : tables) RETURN_IF_ERROR(read_table(table, rules));
         return {};
       }}};
}

}  // namespace bitacora::engine
