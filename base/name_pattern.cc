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
    (excludes ? parsed.exclude_ : parsed.include_).push_back({schema, table});
  }
  return parsed;
}

bool TablePatterns::any(const std::vector<Pattern>& patterns, std::string_view schema,
                        std::string_view table) {
  return std::any_of(patterns.begin(), patterns.end(), [&](const Pattern& pattern) {
    return matches_wildcard(pattern.schema, schema) && matches_wildcard(pattern.table, table);
  });
}

bool TablePatterns::matches_everything() const {
  const auto everything = [](const Pattern& p) { return p.schema == "*" && p.table == "*"; };
  return exclude_.empty() &&
         (include_.empty() || std::any_of(include_.begin(), include_.end(), everything));
}

bool TablePatterns::matches(std::string_view schema, std::string_view table) const {
  return (include_.empty() || any(include_, schema, table)) && !any(exclude_, schema, table);
}

}  // namespace bitacora
