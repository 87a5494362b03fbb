// Which tables: "schema.table" with * and ?, a leading ! excludes, a name without dot means any
// schema. In double quotes, doubled inside, a name stands for itself: public."a.b".
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"

namespace bitacora {

// * stands for any run of characters, ? for one; everything else, upper and lower case too, for
// itself.
bool matches_wildcard(std::string_view pattern, std::string_view text);

struct NamePattern {
  bool matches(std::string_view name) const;
  bool matches_everything() const { return !exact && text == "*"; }
  bool is_one_name() const { return exact || text.find_first_of("*?") == std::string::npos; }

  std::string text;
  bool exact = false;  // * and ? are part of the name
};

class TablePatterns {
 public:
  // No patterns means every table. kUsage for an empty pattern or one with more than one dot
  // outside of quotes.
  static Result<TablePatterns> parse(const std::vector<std::string>& patterns);

  // True when some including pattern matches (or there is none) and no excluding one does.
  bool matches(std::string_view schema, std::string_view table) const;
  bool matches_everything() const;
  // What these match and `others` do, too.
  TablePatterns within(TablePatterns others) const;

  using Name = std::pair<std::string, std::string>;  // schema, table
  // The patterns, as they were written, that match none of these: misspelt perhaps.
  std::vector<std::string> unmatched(const std::vector<Name>& tables) const;
  // The including ones without wildcards: tables that somebody asks for by name.
  std::vector<Name> named() const;

 private:
  struct Pattern {
    bool matches(std::string_view schema, std::string_view table) const;

    std::string text;
    NamePattern schema;
    NamePattern table;
  };
  static bool any(const std::vector<Pattern>& patterns, std::string_view schema,
                  std::string_view table);

  std::vector<Pattern> include_;
  std::vector<Pattern> exclude_;
  std::vector<TablePatterns> within_;
};

}  // namespace bitacora
