#include "engine/publication_sections.h"

#include "base/name_pattern.h"
#include "engine/config_section.h"

namespace bitacora::engine {
namespace {

Result<wal::PublicationRule> read_rule(const ConfigSection& section) {
  RETURN_IF_ERROR(section.expect_keys({"columns", "where"}));
  wal::PublicationRule rule{section.key(), {}, {}};
  const auto pattern = TablePatterns::parse({rule.pattern});
  if (!pattern.ok() || rule.pattern.starts_with('!'))
    return section.bad("", "is not schema.table", "for example: [table.\"public.orders\"]");
  ASSIGN_OR_RETURN(const auto columns, section.texts("columns"));
  ASSIGN_OR_RETURN(const auto where, section.text("where"));
  if (columns && columns->empty())
    return section.bad("columns", "names none", "leave it out to ship all columns");
  if (where && where->find_first_not_of(" \t\n") == std::string::npos)
    return section.bad("where", "is empty", "leave it out to ship all rows");
  if (!columns && !where)
    return section.bad("", "says nothing", "give columns, where or both, or leave it out");
  rule.columns = columns.value_or(std::vector<std::string>{});
  rule.where = where.value_or("");
  return rule;
}

}  // namespace

Result<std::vector<wal::PublicationRule>> read_publication_sections(const ConfigSection& table) {
  std::vector<wal::PublicationRule> rules;
  ASSIGN_OR_RETURN(const auto sections, table.sections());
  for (const auto& section : sections) {
    ASSIGN_OR_RETURN(auto rule, read_rule(section));
    rules.push_back(std::move(rule));
  }
  return rules;
}

}  // namespace bitacora::engine
