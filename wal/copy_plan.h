// What there is to copy of published tables, as they are in a snapshot.
#pragma once

#include <map>
#include <stop_token>
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

enum class Unpublished { kRefused, kLeftOut };

// `tables` as the publication names them; its column lists and row filters hold, and
// publish_via_partition_root. Errors: kConfiguration, a table that is not published, unless those
// are left out; kMaster, the tables (all of them) that the role may not SELECT from, with the GRANT
// that mends it, or of which row level security would show it a part. A table that somebody holds
// locked is waited for; at `stop` not any longer, which ends the snapshot.
Result<std::vector<CopyPlanTable>> plan_copy(CopySnapshot& snapshot, const std::string& conninfo,
                                             const std::string& publication,
                                             const std::vector<pb::TableName>& tables,
                                             const OnWaiting& waiting,
                                             const std::stop_token& stop = {},
                                             Unpublished unpublished = Unpublished::kRefused);

}  // namespace bitacora::wal
