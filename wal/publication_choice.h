// What is asked for, laid over what the master has: the publication as it is wanted. Pure, but for
// filters and columns, which are still spelled as they were written; see publication_probe.h.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "wal/publication_catalogue.h"
#include "wal/publication_plan.h"
#include "wal/publication_rule.h"

namespace bitacora::wal {

// Without tables, schemas and rules an existing publication ships the tables that it ships.
struct PublicationOptions {
  std::vector<std::string> tables = {};      // patterns; empty: every table
  bool publish_via_partition_root = false;   // rows of partitions arrive under the root's name
  std::vector<std::string> schemas = {};     // whole ones, with the tables to come
  std::vector<std::string> operations = {};  // empty: what is published so far, or all of them
  std::vector<PublicationRule> rules = {};   // at most one for each table
  bool strict = false;  // a pattern or a schema that matches nothing is an error

  bool choose_tables() const { return !tables.empty() || !schemas.empty() || !rules.empty(); }
};

struct PublicationChoice {
  Publication wanted;
  std::map<QualifiedTable, PublicationRule> rules;  // what of these tables
  std::vector<std::string> unmatched;               // patterns and schemas, as they were written
};

// kConfiguration: nothing matches, two rules for one table, a rule for rows of a table whose whole
// schema is published, with `strict` a pattern that matches nothing, what needs a newer
// PostgreSQL. kUsage: a pattern that is none.
Result<PublicationChoice> choose(const PublicationOptions& options,
                                 const MasterCatalogue& catalogue,
                                 const std::optional<Publication>& as_is);

}  // namespace bitacora::wal
