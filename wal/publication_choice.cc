#include "wal/publication_choice.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/name_pattern.h"
#include "proto/relation.h"

namespace bitacora::wal {
namespace {

using Rules = std::map<QualifiedTable, PublicationRule>;
using Names = std::vector<QualifiedTable>;

std::string section(const PublicationRule& rule) {
  return fmt::format("[table.\"{}\"]", rule.pattern);
}

std::string readable(const QualifiedTable& name) {
  return proto::qualified_name(name.first, name.second);
}

Error wrong(const std::string& what, const std::string& hint) {
  return {ErrorCode::kConfiguration, what, hint};
}

Names names_of(const std::map<QualifiedTable, ListedTable>& tables) {
  Names names;
  for (const auto& one : tables) names.push_back(one.first);
  return names;
}

Result<void> check_version(const PublicationOptions& options, const MasterCatalogue& catalogue) {
  if (catalogue.has_parts()) return {};
  const auto needs = [&](const std::string& what, const char* hint) {
    return wrong(fmt::format("{} needs PostgreSQL 15 or newer, the master is {}", what,
                             catalogue.server_version / 10000),
                 hint);
  };
  if (!options.schemas.empty())
    return needs("--schemas", "name the tables instead: --tables 'SCHEMA.*'");
  if (!options.rules.empty())
    return needs("columns or where in " + section(options.rules.front()),
                 "leave the section out: whole tables can be shipped");
  return {};
}

class Chooser {
 public:
  Chooser(const PublicationOptions& options, const MasterCatalogue& catalogue,
          TablePatterns patterns)
      : options_(options), catalogue_(catalogue), patterns_(std::move(patterns)) {}

  Result<PublicationChoice> choose(const std::optional<Publication>& as_is) {
    Publication& wanted = choice_.wanted;
    if (as_is) wanted = *as_is;
    wanted.via_root = options_.publish_via_partition_root;
    if (!options_.operations.empty())
      wanted.operations = {options_.operations.begin(), options_.operations.end()};
    if (wanted.operations.empty() && !as_is)
      wanted.operations = {all_operations().begin(), all_operations().end()};
    if (options_.choose_tables() || !as_is) RETURN_IF_ERROR(choose_tables());
    note_unmatched();
    if (!options_.strict || choice_.unmatched.empty()) return std::move(choice_);
    return wrong(
        fmt::format("nothing on the master matches {}", fmt::join(choice_.unmatched, ", ")),
        "compare with: SELECT schemaname, tablename FROM pg_tables; or leave --strict out");
  }

 private:
  Result<void> choose_tables() {
    Publication& wanted = choice_.wanted;
    wanted.all_tables = patterns_.matches_everything() && options_.rules.empty() &&
                        (!options_.tables.empty() || options_.schemas.empty());
    wanted.schemas.clear();
    wanted.tables.clear();
    wanted.published = wanted.all_tables ? catalogue_.tables : decltype(wanted.published){};
    if (wanted.all_tables) return {};
    for (const auto& schema : options_.schemas) {
      if (catalogue_.schemas.contains(schema)) wanted.schemas.insert(schema);
    }
    for (const auto& [name, table] : catalogue_.tables) RETURN_IF_ERROR(choose_table(name, table));
    if (!wanted.tables.empty() || !wanted.schemas.empty()) return {};
    return wrong(fmt::format("no table on the master matches {}",
                             options_.tables.empty() && !options_.schemas.empty() ? "--schemas"
                                                                                  : "--tables"),
                 "compare the patterns with: SELECT schemaname, tablename FROM pg_tables");
  }

  Result<void> choose_table(const QualifiedTable& name, const ListedTable& table) {
    ASSIGN_OR_RETURN(const auto* rule, rule_for(name));
    const bool whole_schema = choice_.wanted.schemas.contains(name.first);
    const bool by_pattern = options_.tables.empty() ? options_.schemas.empty() || rule != nullptr
                                                    : patterns_.matches(name.first, name.second);
    if (whole_schema) RETURN_IF_ERROR(check_in_schema(name, rule));
    if (!whole_schema && !by_pattern) return {};
    choice_.wanted.published.emplace(name, table);
    if (rule != nullptr) choice_.rules.emplace(name, *rule);
    if (!whole_schema || rule != nullptr) choice_.wanted.tables.emplace(name, table);
    return {};
  }

  // PostgreSQL itself refuses column lists beside whole schemas, and passes over filters.
  Result<void> check_in_schema(const QualifiedTable& name, const PublicationRule* rule) const {
    if (rule != nullptr && !rule->where.empty())
      return wrong(fmt::format("{} filters rows of {}, but --schemas ships all of {}",
                               section(*rule), readable(name), name.first),
                   "name the schema's tables in --tables instead");
    for (const auto& pattern : options_.tables) {
      if (!pattern.starts_with('!')) continue;
      ASSIGN_OR_RETURN(const auto excluding, TablePatterns::parse({pattern}));
      if (excluding.matches(name.first, name.second)) continue;
      return wrong(fmt::format("--tables {} leaves out {}, but --schemas ships all of {}", pattern,
                               readable(name), name.first),
                   "name the schema's tables in --tables instead");
    }
    return {};
  }

  Result<const PublicationRule*> rule_for(const QualifiedTable& name) const {
    const PublicationRule* found = nullptr;
    for (const auto& rule : options_.rules) {
      ASSIGN_OR_RETURN(const auto pattern, TablePatterns::parse({rule.pattern}));
      if (!pattern.matches(name.first, name.second)) continue;
      if (found != nullptr)
        return wrong(fmt::format("{} and {} both match table {}", section(*found), section(rule),
                                 readable(name)),
                     "write patterns of which one matches");
      found = &rule;
    }
    return found;
  }

  void note_unmatched() {
    choice_.unmatched = patterns_.unmatched(names_of(catalogue_.tables));
    for (const auto& schema : options_.schemas) {
      if (!catalogue_.schemas.contains(schema)) choice_.unmatched.push_back(schema);
    }
    for (const auto& rule : options_.rules) {
      bool used = false;
      for (const auto& one : choice_.rules) used |= one.second.pattern == rule.pattern;
      if (!used) choice_.unmatched.push_back(section(rule));
    }
  }

  const PublicationOptions& options_;
  const MasterCatalogue& catalogue_;
  const TablePatterns patterns_;
  PublicationChoice choice_;
};

}  // namespace

Result<PublicationChoice> choose(const PublicationOptions& options,
                                 const MasterCatalogue& catalogue,
                                 const std::optional<Publication>& as_is) {
  RETURN_IF_ERROR(check_version(options, catalogue));
  ASSIGN_OR_RETURN(auto patterns, TablePatterns::parse(options.tables));
  if (as_is && as_is->via_root != options.publish_via_partition_root) {
    return wrong(
        fmt::format("the publication has publish_via_partition_root = {}", as_is->via_root),
        "run the sender with the same setting, or: ALTER PUBLICATION ... SET "
        "(publish_via_partition_root)");
  }
  return Chooser(options, catalogue, std::move(patterns)).choose(as_is);
}

}  // namespace bitacora::wal
