#include "tests/equivalence/moves.h"

#include <fmt/args.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <numeric>
#include <utility>

#include "tests/equivalence/subjects.h"

namespace bitacora::equivalence {
namespace {

constexpr std::size_t kKeysPerClass = 4;  // few, so that moves meet each other's rows

std::string in_any_case(std::string text, Chance& chance) {
  for (char& c : text) {
    if (chance.one_in(2)) c = static_cast<char>(std::toupper(c));
  }
  return text;
}

// A key in one of its spellings: what is equal need not be the same bytes.
std::string spelled(KeyKind kind, std::size_t row_class, std::size_t index, Chance& chance) {
  constexpr std::array kZeros = {"", ".0", ".00", ".000"};
  constexpr std::size_t kNanIndex = 2;
  const auto number = row_class + kClasses * index;
  const auto letter = static_cast<char>('a' + row_class);
  switch (kind) {
    case KeyKind::kInteger:
      return fmt::format("{}", number);
    case KeyKind::kNumeric:
      return fmt::format("{}{}", number, kZeros[chance.below(kZeros.size())]);
    case KeyKind::kFloat:
      if (row_class == 0 && index == kNanIndex) return "'NaN'";
      return number == 0 && chance.one_in(2) ? "'-0'" : fmt::format("'{}'", number);
    case KeyKind::kCode:
      return fmt::format("'{}{}'", letter, index);
    case KeyKind::kPadded:
      return fmt::format("'{}{}{}'", letter, index, std::string(chance.below(4), ' '));
    case KeyKind::kFolded:
      return fmt::format("'{}'", in_any_case(fmt::format("{}{}xy", letter, index), chance));
  }
  return {};
}

std::string in_class(const KeyedTable& table, std::size_t row_class) {
  switch (table.kind) {
    case KeyKind::kInteger:
    case KeyKind::kNumeric:
      return fmt::format("{} % {} = {}", table.key, kClasses, row_class);
    case KeyKind::kFloat:
      return fmt::format("CASE WHEN {0} = 'NaN' THEN 0 ELSE {0}::numeric % {1} END = {2}",
                         table.key, kClasses, row_class);
    case KeyKind::kCode:
    case KeyKind::kPadded:
    case KeyKind::kFolded:
      return fmt::format("lower(left({}::text COLLATE \"C\", 1)) = '{}'", table.key,
                         static_cast<char>('a' + row_class));
  }
  return {};
}

std::array<std::size_t, kKeysPerClass> shuffled_indices(Chance& chance) {
  std::array<std::size_t, kKeysPerClass> indices{};
  std::iota(indices.begin(), indices.end(), 0);
  for (auto i = indices.size(); i > 1; --i) std::swap(indices[i - 1], indices[chance.below(i)]);
  return indices;
}

// For VALUES: some keys of a class, each with an n.
std::string some_rows(KeyKind kind, std::size_t row_class, Chance& chance) {
  std::vector<std::string> rows;
  const auto indices = shuffled_indices(chance);
  const auto count = chance.between(2, indices.size());
  for (std::size_t i = 0; i < count; ++i) {
    const auto key = spelled(kind, row_class, indices[i], chance);
    rows.push_back(fmt::format("({}, {})", key, chance.below(10)));
  }
  return fmt::format("{}", fmt::join(rows, ", "));
}

}  // namespace

const std::vector<Subject>& subjects() {
  static const auto all = make_subjects();
  return all;
}

std::string population(Chance& chance) {
  std::string sql = "BEGIN;\n";
  for (const auto& table : keyed_tables()) {
    const Move insert{table, "INSERT INTO e.{t} ({key}, n) VALUES {rows};\n"};
    for (std::size_t c = 0; c < kClasses; ++c) sql += filled(insert, c, chance);
  }
  for (const auto& statement : populated_by_hand()) sql += statement + ";\n";
  return sql + "COMMIT";
}

std::string filled(const Move& move, std::size_t row_class, Chance& chance) {
  constexpr std::array kWords = {"sea", "log", "tide", "knot", "reef", ""};
  constexpr std::array kRegions = {"north", "south", "west"};
  const auto kind = move.table.kind;
  const auto indices = shuffled_indices(chance);
  const auto word = kWords[chance.below(kWords.size())];
  const auto x = chance.below(10);
  const auto key = [&](std::size_t index) { return spelled(kind, row_class, index, chance); };
  fmt::dynamic_format_arg_store<fmt::format_context> values;
  const auto put = [&](const char* name, const auto& value) {
    values.push_back(fmt::arg(name, value));
  };
  put("t", move.table.name);
  put("key", move.table.key);
  put("a", key(indices[0]));
  put("a2", key(indices[0]));
  put("b", key(indices[1]));
  put("d", key(indices[2]));
  put("spare", key(kKeysPerClass));
  put("c", row_class);
  put("in_class", in_class(move.table, row_class));
  for (const auto& [name, order] : {std::pair{"first", "ASC"}, std::pair{"last", "DESC"}}) {
    put(name, fmt::format("(SELECT r.ctid FROM e.{} AS r WHERE a = {} ORDER BY r::text COLLATE "
                          "\"C\" {} LIMIT 1)",
                          move.table.name, key(indices[0]), order));
  }
  put("rows", some_rows(kind, row_class, chance));
  put("x", x);
  put("y", chance.below(10));
  put("j", chance.below(kKeysPerClass));
  put("s", std::string(word));
  put("wide", fmt::format("repeat(md5('{}{}'), 90)", word, x));
  put("decimal", spelled(KeyKind::kNumeric, 0, x % 2, chance));
  put("zero", std::string(chance.one_in(2) ? "'0'" : "'-0'"));
  put("any_case", spelled(KeyKind::kFolded, row_class, x % 2, chance));
  put("region", std::string(kRegions[chance.below(kRegions.size())]));
  put("region2", std::string(kRegions[chance.below(kRegions.size())]));
  return fmt::vformat(move.pattern, values);
}

}  // namespace bitacora::equivalence
