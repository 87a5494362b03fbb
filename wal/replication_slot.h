// The logical slot of a stream.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/error.h"
#include "base/lsn.h"
#include "wal/master_session.h"

namespace bitacora::wal {

struct ReplicationSlot {
  std::string plugin;
  std::string database;
  MasterLsn restart_lsn;
  MasterLsn confirmed_flush_lsn;
  std::string wal_status;            // reserved, extended, unreserved, lost
  std::uint64_t retained_bytes = 0;  // WAL the master keeps for it
  std::optional<int> active_pid = {};
  // What may still be written before max_slot_wal_keep_size costs it its WAL; empty: no limit.
  std::optional<std::int64_t> safe_wal_bytes = {};
};

// Empty when there is no slot of this name.
Result<std::optional<ReplicationSlot>> find_slot(MasterSession& master, const std::string& name);

// Creates a permanent pgoutput slot; the publication must exist before, or decoding fails on
// changes made in between. Answers its consistent point.
Result<MasterLsn> create_slot(MasterSession& master, const std::string& name);

// Not an error when it does not exist; one when it is in use.
Result<bool> drop_slot(MasterSession& master, const std::string& name);

}  // namespace bitacora::wal
