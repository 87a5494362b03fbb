// Whole source transactions that become one of the standby's, collected before they are written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "apply/exchange.h"
#include "apply/footprint.h"
#include "apply/table_map.h"
#include "base/lsn.h"
#include "proto/replication.pb.h"

namespace bitacora::apply {

// Of the master's.
struct SourceTransaction {
  MasterLsn begun;  // where its commit record begins
  std::int64_t commit_time_usec = 0;
};

struct GroupRows {
  SourceTransaction source;
  SharedChanges batch;
  const MappedTable* table = nullptr;
  const pb::Rows* block = nullptr;  // of the batch
};

struct Group {
  std::vector<GroupRows> rows;
  Footprint footprint;
  std::uint64_t row_count = 0;
  std::size_t bytes = 0;
  std::uint64_t transactions = 0;
  MasterLsn begun;  // the last transaction's, where its commit record begins
  MasterLsn from;   // end of the group before
  MasterLsn to;     // its own
  std::int64_t commit_time_usec = 0;
  bool one_trip = false;
};

}  // namespace bitacora::apply
