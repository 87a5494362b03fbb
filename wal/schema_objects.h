// Which of the master's objects a schema with some of its tables needs. Source:
// https://www.postgresql.org/docs/current/catalog-pg-depend.html
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "proto/replication.pb.h"
#include "wal/master_session.h"

namespace bitacora::wal {

using CatalogObject = std::pair<std::uint32_t, std::uint32_t>;  // OIDs of its catalogue and its own

struct SchemaObjects {
  std::set<CatalogObject> needed;
  std::vector<std::string> unneeded_tables;  // as pg_dump's patterns; views and sequences as well
};

// `tables`, what belongs to them and what both of that needs, as `snapshot` has them (empty: now).
// A partition needs its root, but not its siblings; foreign keys only where what they refer to is
// among the tables. kConfiguration: there is no such table.
Result<SchemaObjects> needed_objects(MasterSession& master,
                                     const std::vector<pb::TableName>& tables,
                                     const std::string& snapshot);

// `tables` and what belongs to them, but for sequences that other tables' defaults use as well.
// Tables that the master does not have are passed over.
Result<std::set<CatalogObject>> objects_of(MasterSession& master,
                                           const std::vector<pb::TableName>& tables,
                                           const std::string& snapshot);

}  // namespace bitacora::wal
