#include "base/name_pattern.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace bitacora {
namespace {

// Where the character after the one at `at` begins, in UTF-8.
std::size_t next_character(std::string_view text, std::size_t at) {
  do ++at;
  while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80);
  return at;
}

// Takes one part off the front; its text is empty when there is none.
NamePattern take_part(std::string_view& rest) {
  if (!rest.starts_with('"')) {
    const auto end = std::min(rest.find('.'), rest.size());
    NamePattern part{std::string(rest.substr(0, end))};
    rest.remove_prefix(end);
    return part;
  }
  NamePattern part{{}, true};
  for (std::size_t i = 1; i < rest.size(); ++i) {
    const bool doubled = rest[i] == '"' && i + 1 < rest.size() && rest[i + 1] == '"';
    if (rest[i] == '"' && !doubled) {
      rest.remove_prefix(i + 1);
      return part;
    }
    part.text += rest[i];
    if (doubled) ++i;
  }
  return {};  // the quote does not end
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
    std::string_view rest = text;
    if (excludes) rest.remove_prefix(1);
    NamePattern schema{"*"};
    NamePattern table = take_part(rest);
    if (rest.starts_with('.')) {
      rest.remove_prefix(1);
      schema = std::exchange(table, take_part(rest));
    }
    if (schema.text.empty() || table.text.empty() || !rest.empty()) {
      return Error{ErrorCode::kUsage, fmt::format("table pattern \"{}\" is not schema.table", text),
                   "write schema.table with * and ? as wildcards, for example 'public.*', and a "
                   "name with a dot in double quotes"};
    }
    (excludes ? parsed.exclude_ : parsed.include_)
        .push_back({text, std::move(schema), std::move(table)});
  }
  return parsed;
}

bool NamePattern::matches(std::string_view name) const {
  return exact ? name == text : matches_wildcard(text, name);
}

bool TablePatterns::Pattern::matches(std::string_view in_schema, std::string_view name) const {
  return schema.matches(in_schema) && table.matches(name);
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
    if (pattern.schema.is_one_name() && pattern.table.is_one_name())
      names.emplace_back(pattern.schema.text, pattern.table.text);
  }
  return names;
}

bool TablePatterns::any(const std::vector<Pattern>& patterns, std::string_view schema,
                        std::string_view table) {
  return std::any_of(patterns.begin(), patterns.end(),
                     [&](const Pattern& pattern) { return pattern.matches(schema, table); });
}

bool TablePatterns::matches_everything() const {
  const auto everything = [](const Pattern& p) {
    return p.schema.matches_everything() && p.table.matches_everything();
  };
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
