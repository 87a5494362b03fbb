#include "base/name_pattern.h"

#include <algorithm>

#include <fmt/format.h>

namespace bitacora {
namespace {

// Where the character after the one at `at` begins, in UTF-8.
std::size_t next_character(std::string_view text, std::size_t at) {
  do ++at;
  while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80);
  return at;
}

}  // namespace

bool matches_wildcard(std::string_view pattern, std::string_view text) {
  std::size_t p = 0;
  std::size_t t = 0;
  std::size_t star = std::string_view::npos;  // where to resume after the last '*'
  std::size_t retry = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      retry = t;
    } else if (p < pattern.size() && pattern[p] == '?') {
      ++p;
      t = next_character(text, t);
    } else if (p < pattern.size() && pattern[p] == text[t]) {
      ++p;
      ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++retry;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

Result<TablePatterns> TablePatterns::parse(const std::vector<std::string>& patterns) {
  TablePatterns parsed;
  for (const auto& text : patterns) {
    const bool excludes = text.starts_with('!');
    const std::string name = text.substr(excludes ? 1 : 0);
    const auto dot = name.find('.');
    const std::string schema = dot == std::string::npos ? "*" : name.substr(0, dot);
    const std::string table = dot == std::string::npos ? name : name.substr(dot + 1);
    if (schema.empty() || table.empty() || table.find('.') != std::string::npos) {
      return Error{ErrorCode::kUsage, fmt::format("table pattern \"{}\" is not schema.table", text),
                   "write schema.table with * and ? as wildcards, for example 'public.*'"};
    }
    (excludes ? parsed.exclude_ : parsed.include_).push_back({text, schema, table});
  }
  return parsed;
}

bool TablePatterns::Pattern::matches(std::string_view in_schema, std::string_view name) const {
  return matches_wildcard(schema, in_schema) && matches_wildcard(table, name);
}

std::vector<std::string> TablePatterns::unmatched(const std::vector<Name>& tables) const {
  std::vector<std::string> texts;
  for (const auto* patterns : {&include_, &exclude_}) {
    for (const auto& pattern : *patterns) {
      const bool used = std::any_of(tables.begin(), tables.end(), [&](const Name& name) {
        return pattern.matches(name.first, name.second);
      });
      if (!used) texts.push_back(pattern.text);
    }
  }
  return texts;
}

std::vector<TablePatterns::Name> TablePatterns::named() const {
  std::vector<Name> names;
  for (const auto& pattern : include_) {
    if ((pattern.schema + pattern.table).find_first_of("*?") == std::string::npos)
      names.emplace_back(pattern.schema, pattern.table);
  }
  return names;
}

bool TablePatterns::any(const std::vector<Pattern>& patterns, std::string_view schema,
                        std::string_view table) {
  return std::any_of(patterns.begin(), patterns.end(),
                     [&](const Pattern& pattern) { return pattern.matches(schema, table); });
}

bool TablePatterns::matches_everything() const {
  const auto everything = [](const Pattern& p) { return p.schema == "*" && p.table == "*"; };
  return exclude_.empty() && within_.empty() &&
         (include_.empty() || std::any_of(include_.begin(), include_.end(), everything));
}

bool TablePatterns::matches(std::string_view schema, std::string_view table) const {
  return (include_.empty() || any(include_, schema, table)) && !any(exclude_, schema, table) &&
         std::all_of(within_.begin(), within_.end(),
                     [&](const TablePatterns& others) { return others.matches(schema, table); });
}

TablePatterns TablePatterns::within(TablePatterns others) const {
  auto both = *this;
  both.within_.push_back(std::move(others));
  return both;
}

}  // namespace bitacora
