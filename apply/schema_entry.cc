#include "apply/schema_entry.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "proto/relation.h"

namespace bitacora::apply {
namespace {

constexpr std::string_view kSpaces = " \t\r\n";

bool is_relation(std::string_view type) {
  static constexpr std::array<std::string_view, 5> kRelations = {
      "TABLE", "VIEW", "MATERIALIZED VIEW", "SEQUENCE", "FOREIGN TABLE"};
  return std::find(kRelations.begin(), kRelations.end(), type) != kRelations.end();
}

// Reads SQL as pg_dump writes it: keywords in capitals, names qualified.
class Words {
 public:
  explicit Words(std::string_view sql) : left_(sql) { skip_spaces(); }

  bool take(std::string_view keyword) {
    if (!left_.starts_with(keyword)) return false;
    const auto rest = left_.substr(keyword.size());
    if (!rest.empty() && kSpaces.find(rest.front()) == std::string_view::npos) return false;
    left_ = rest;
    skip_spaces();
    return true;
  }

  // One name, qualified or not, with its quotes.
  std::string_view name() {
    std::size_t end = 0;
    bool quoted = false;
    for (; end < left_.size(); ++end) {
      const char c = left_[end];
      if (c == '"') quoted = !quoted;
      if (!quoted && (kSpaces.find(c) != std::string_view::npos || c == '(' || c == ';')) break;
    }
    const auto found = left_.substr(0, end);
    left_.remove_prefix(end);
    skip_spaces();
    return found;
  }

 private:
  void skip_spaces() {
    left_.remove_prefix(std::min(left_.find_first_not_of(kSpaces), left_.size()));
  }

  std::string_view left_;
};

using Begins = bool (*)(Words&);

bool create_index(Words& words) {
  if (!words.take("CREATE")) return false;
  words.take("UNIQUE");
  return words.take("INDEX");
}

bool alter_table(Words& words) { return words.take("ALTER") && words.take("TABLE"); }

// What follows the beginning of the first such statement; empty: there is none. Comments and
// settings may stand before it.
Words after(Begins begins, std::string_view sql) {
  while (!sql.empty()) {
    if (Words words(sql); begins(words)) return words;
    sql.remove_prefix(std::min(sql.find('\n'), sql.size() - 1) + 1);
  }
  return Words({});
}

std::string identifier(std::string_view name) { return proto::sql_identifier(std::string(name)); }

std::string needs_right(const Refusal& refusal) {
  const auto grant = [&](std::string_view of) {
    return fmt::format("run on the standby as its owner: GRANT CREATE ON {} TO {}", of,
                       identifier(refusal.role));
  };
  if (refusal.type == "SCHEMA") return grant("DATABASE " + identifier(refusal.database));
  if (refusal.type == "EXTENSION")
    return "run on the standby as a superuser: CREATE EXTENSION " + identifier(refusal.name);
  if (!refusal.schema.empty()) return grant("SCHEMA " + identifier(refusal.schema));
  return fmt::format("only a role with more rights than {} can make it", identifier(refusal.role));
}

}  // namespace

bool there_already(std::string_view type, std::string_view sqlstate) {
  // 42710 to a table means a type that has its name: the table is not there.
  if (is_relation(type)) return sqlstate == "42P07";
  static constexpr std::array<std::string_view, 4> kDuplicates = {"42P06", "42P07", "42710",
                                                                  "42723"};
  return std::find(kDuplicates.begin(), kDuplicates.end(), sqlstate) != kDuplicates.end();
}

bool builds_an_index(std::string_view type, std::string_view sql) {
  if (type == "INDEX") return true;
  if (type != "CONSTRAINT") return false;
  auto words = after(alter_table, sql);
  words.take("ONLY");
  words.name();
  if (!words.take("ADD") || !words.take("CONSTRAINT")) return false;
  words.name();
  return words.take("PRIMARY") || words.take("UNIQUE") || words.take("EXCLUDE");
}

std::string table_of(std::string_view sql) {
  auto words = after(create_index, sql);
  words.name();
  if (!words.take("ON")) words = after(alter_table, sql);
  words.take("ONLY");
  return std::string(words.name());
}

std::string hint_for(const Refusal& refusal) {
  const auto& state = refusal.sqlstate;
  // 0A000 since PostgreSQL 15, before it the missing file.
  if (refusal.type == "EXTENSION" && (state == "0A000" || state == "58P01"))
    return "install its package on the standby's host, or leave out the tables that need it";
  if (state == "42501") return needs_right(refusal);
  if (state == "42704" || state == "3F000")
    return "make what is missing on the standby, or leave out the tables that need it";
  return {};
}

}  // namespace bitacora::apply
