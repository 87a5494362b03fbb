// One subject of replication as a row of a table of cases: what both servers have, what happens on
// the master, and what must then be equal. All rows of a table share one pair.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "tests/postgres/pair.h"

namespace bitacora::harness {

struct TableLife {
  std::string name;
  std::string tables;                // SQL for both sides, in a schema of the case's own
  std::vector<std::string> changes;  // on the master; each a transaction unless it says otherwise
  // Tables, or queries, whose answers must be the same on both sides.
  std::vector<std::string> compared = {"t"};
  std::string standby_tables = {};  // the standby's, where they differ
  // Query → its answer on the standby, for what must not be as on the master.
  std::vector<std::pair<std::string, std::string>> standby_says = {};
};

// Each case's changes are applied as they are made: small groups, one round trip.
void run_live(const std::vector<TableLife>& cases, PairOptions options = {});

// The receiver starts when everything has been written: large groups over many tables.
void run_backlog(const std::vector<TableLife>& cases, PairOptions options = {});

// The same, between given servers.
void run_live(Pair& pair, const std::vector<TableLife>& cases);

// conninfo with the search path of a schema first.
std::string in_schema(const std::string& conninfo, const std::string& schema);

// What a query (or a table) answers, one row a line, sorted; long rows as a digest.
std::string sorted_rows(const std::string& conninfo, const std::string& query);

// Uses up OIDs, so that the standby's own types are numbered differently from the master's.
void shift_oids(const std::string& conninfo);

// TEST Suite.Live and TEST Suite.Backlog over one table of cases.
#define TABLE_LIFE(Suite, cases)           \
  TEST(Suite, Live) { run_live(cases()); } \
  TEST(Suite, Backlog) { run_backlog(cases()); }

}  // namespace bitacora::harness
