// Whether the standby can take what a sender ships, before anything is applied.
#pragma once

#include <vector>

#include "apply/standby_session.h"
#include "base/error.h"
#include "engine/options.h"
#include "proto/replication.pb.h"

namespace bitacora::engine {

// Published tables that the receiver takes and the standby lacks.
Result<std::vector<pb::Relation>> missing_tables(const ReceiverOptions& options,
                                                 const pb::Welcome& welcome);

// Every published table that the receiver takes has a fitting one on the standby, whose statements
// the server accepts. Warns of triggers that fire and of conflict rules that match nothing. Errors:
// kStandby, naming the table and what mends it.
Result<void> preflight(apply::StandbySession& standby, const ReceiverOptions& options,
                       const pb::Welcome& welcome);

}  // namespace bitacora::engine
