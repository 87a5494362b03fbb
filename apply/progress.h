// The row that says how far a subscription is applied, written in the same transaction as the data
// (rule I3).
#pragma once

#include <optional>
#include <string>

#include "apply/standby_session.h"
#include "base/error.h"
#include "base/lsn.h"
#include "proto/replication.pb.h"

namespace bitacora::apply {

struct Progress {
  pb::Identity identity;
  MasterLsn applied_lsn;
};

// Empty when the subscription has never been applied to this standby.
Result<std::optional<Progress>> load_progress(StandbySession& standby,
                                              const std::string& subscription);

// The first row of a subscription; before the first of all, the schema bitacora and its table.
Result<void> create_progress(StandbySession& standby, const std::string& subscription,
                             const Progress& progress);

// Everything this standby shows as applied survives its crash from now on: one synchronous commit
// flushes the asynchronous ones before it.
Result<void> make_progress_durable(StandbySession& standby, const std::string& subscription);

// For the pipeline: moves the row from $4 to $2 (both as pg_lsn), $3 is the commit time of the last
// transaction (timestamptz, or NULL to keep it). Fails with kAssertionSqlstate when the row is not
// where we left it.
std::string advance_progress_sql();

}  // namespace bitacora::apply
