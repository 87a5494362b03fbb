// What there is to copy of published tables, as they are in a snapshot.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/error.h"
#include "proto/replication.pb.h"
#include "wal/copy_snapshot.h"

namespace bitacora::wal {

struct CopyPlanTable {
  pb::CopyTablePlan plan;
  std::string row_filter;                       // SQL of the publication's WHERE; empty: none
  std::map<std::uint32_t, std::string> pieces;  // by OID: the table to read, as SQL
};

// `tables` as the publication names them; its column lists and row filters hold, and
// publish_via_partition_root. Errors: kConfiguration, a table that is not published; kMaster, the
// tables (all of them) that the role may not SELECT from, with the GRANT that mends it. A table
// that somebody holds locked is waited for.
Result<std::vector<CopyPlanTable>> plan_copy(CopySnapshot& snapshot, const std::string& conninfo,
                                             const std::string& publication,
                                             const std::vector<pb::TableName>& tables,
                                             const OnWaiting& waiting);

}  // namespace bitacora::wal
