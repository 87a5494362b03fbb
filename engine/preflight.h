// Whether the standby can take what a sender ships, before anything is applied.
#pragma once

#include <vector>

#include "apply/standby_session.h"
#include "apply/target_registry.h"
#include "base/error.h"
#include "engine/options.h"
#include "proto/replication.pb.h"

namespace bitacora::engine {

// Published tables that the receiver takes and the standby lacks, and is to have under the master's
// names.
Result<std::vector<pb::Relation>> missing_tables(const ReceiverOptions& options,
                                                 const pb::Welcome& welcome);

// Every published table that the receiver takes has a fitting one on the standby, whose statements
// the server accepts. Warns of triggers that fire, and of patterns and rules that match nothing:
// kConfiguration with --strict. Errors: kStandby, naming the table and what mends it;
// kConfiguration, rules that contradict each other, or another receiver writes one of the tables.
Result<void> preflight(apply::StandbySession& standby, const ReceiverOptions& options,
                       const pb::Welcome& welcome);

// Those of the sender's tables that the receiver takes.
Result<std::vector<apply::SourceTable>> taken_tables(const ReceiverOptions& options,
                                                     const pb::Welcome& welcome);

}  // namespace bitacora::engine
