// The tables that histories are about, each made for one way in which applying can go wrong.
#pragma once

#include <string>
#include <vector>

namespace bitacora::equivalence {

// How the standby's partitions are to the master's.
enum class Partitions {
  kAlike,       // the same; a row travels under its partition's name
  kOfTheirOwn,  // others, or none; a row travels under its root's name
};

// All in the schema `e`. The standby's differ: other column orders, more columns, triggers.
std::string master_schema();
std::string standby_schema(Partitions partitions);

// What PostgreSQL's own subscription is asked to replicate; see Comparison::on_built_in.
std::string built_in_publication(Partitions partitions);

// A query over a table whose answers must be the same wherever it is asked, in any order of rows.
struct Comparison {
  std::string name;
  std::string query;
  bool on_master = true;    // false: what only the standbys have
  bool on_built_in = true;  // false: what PostgreSQL's own subscription gets wrong
};
const std::vector<Comparison>& comparisons(Partitions partitions);

// Marks what the standbys have and the master does not: an updated row keeps it, a deleted and
// inserted one does not. What triggers wrote is forgotten.
std::string mark_standby();

// Every row goes, as DELETEs.
std::string delete_everything();

}  // namespace bitacora::equivalence
