// What can happen to the tables: patterns of SQL, legal whatever the rows are. Pure.
//
// Every row belongs to one of six classes by its key (key % 6, or a first letter), and so does
// every value under a unique index or exclusion constraint. A move touches rows of one class only:
// sessions that own different classes never wait for each other, and a history is the same each
// time it is run.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "tests/simulator/chance.h"

namespace bitacora::equivalence {

using simulator::Chance;

inline constexpr std::size_t kClasses = 6;

enum class KeyKind { kInteger, kNumeric, kFloat, kCode, kPadded, kFolded };

// A table with one key column and a nullable integer column n.
struct KeyedTable {
  std::string name;
  std::string key = "id";
  KeyKind kind = KeyKind::kInteger;
};

// In `pattern`: {t} and {key} of the table; {a} {b} {d} distinct keys, {a2} the first in another
// spelling, {spare} one that only a swap uses; {c} the class, {in_class} its predicate; {rows} for
// VALUES; {first} {last} the places of two of its rows without a key; {x} {y} {j} small numbers,
// {s} a word, {wide} a long text, {region} {region2}; {decimal} {zero} {any_case} values in one of
// their spellings.
struct Move {
  KeyedTable table;
  std::string pattern;
  std::vector<std::string> emptied = {};  // subjects that a TRUNCATE locks
  // TRUNCATE of one partition is not published under its root's name.
  bool of_one_partition = false;
};

// Tables that are locked together, and what happens to them.
struct Subject {
  std::string name;
  std::vector<Move> moves;
};
const std::vector<Subject>& subjects();

// One transaction that gives every table some rows.
std::string population(Chance& chance);

std::string filled(const Move& move, std::size_t row_class, Chance& chance);

}  // namespace bitacora::equivalence
