// The SQL that pg_restore --verbose writes, cut into the entries of the archive.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "proto/replication.pb.h"

namespace bitacora::engine {

struct DumpEntry {
  int id = 0;
  std::uint32_t catalog = 0;  // OID; 0: it is something about other entries
  std::uint32_t oid = 0;
  std::vector<int> dependencies;  // ids of other entries, those in other sections too
  pb::SchemaEntry entry;          // each can be run by itself
};

// Without what is not SQL (comments, psql's commands), the settings at the beginning, and entries
// in which nothing is left then. A head inside of a quoted string is none. kMaster: it cannot be
// understood.
Result<std::vector<DumpEntry>> cut_dump(std::string_view text);

}  // namespace bitacora::engine
