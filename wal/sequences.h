// The sequences whose values a stream ships.
#pragma once

#include "base/error.h"
#include "base/name_pattern.h"
#include "proto/replication.pb.h"
#include "wal/master_session.h"

namespace bitacora::wal {

// Sequences that belong to a published table's column or fill one in by default, and those whose
// own names `tables` matches (owned by a column or not), outside of system schemas; where each
// stands now. What the role may not read is named, and no error. `may`: nothing is said of other
// tables, nor of a sequence that serves only others.
Result<pb::SequenceValues> read_sequences(MasterSession& master, const std::string& publication,
                                          const TablePatterns& tables,
                                          const TablePatterns& may = {});

}  // namespace bitacora::wal
