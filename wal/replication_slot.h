// The logical slot of a stream.
#pragma once

#include <cstdint>
#include <optional>
#include <stop_token>
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
  std::string wal_status;  // reserved, extended, unreserved, lost
  // Why it is of no use any more: wal_removed, rows_removed, wal_level_insufficient, idle_timeout,
  // or, as far as 16 tells, conflicting, which is one of the middle two. Empty: it is.
  std::string invalidation_reason;
  std::uint64_t retained_bytes = 0;  // WAL the master keeps for it
  std::optional<int> active_pid = {};
  // What may still be written before max_slot_wal_keep_size costs it its WAL; empty: no limit.
  std::optional<std::int64_t> safe_wal_bytes = {};
};

// Empty when there is no slot of this name.
Result<std::optional<ReplicationSlot>> find_slot(MasterSession& master, const std::string& name);

// Creates a permanent pgoutput slot, by a connection of its own; the publication must exist before,
// or decoding fails on changes made in between. Answers its consistent point. It comes when the
// transactions have ended that are open now, and on a standby when the primary has written what
// runs there: a wait is logged. Errors: kMaster, also at `stop`; then there is no slot.
Result<MasterLsn> create_slot(const std::string& conninfo, const std::string& name,
                              const std::stop_token& stop = {});

// What the master says when it makes no slot, with what a person can do about it.
Error with_creation_hint(Error error);

// Moves what a slot that nobody reads is confirmed up to, forward. Reads the WAL up to there. It
// heals when somebody reads it.
Result<void> advance_slot(MasterSession& master, const std::string& name, MasterLsn position);

// Not an error when it does not exist; one when it is in use.
Result<bool> drop_slot(MasterSession& master, const std::string& name);

}  // namespace bitacora::wal
