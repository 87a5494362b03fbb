// Before a table is copied: everything that may be refused is asked for, and the standby is made
// ready.
#pragma once

#include <stop_token>
#include <string>
#include <vector>

#include "apply/empty_table.h"
#include "apply/standby_session.h"
#include "base/error.h"
#include "engine/options.h"
#include "proto/replication.pb.h"
#include "transport/copy_source.h"

namespace bitacora::engine {

struct PreparedCopy {
  pb::CopyPlan plan;
  std::vector<apply::TargetRows> filled;  // of the standby's tables those that hold rows
};

// What the standby already has of these tables, and what to do about rows in them.
enum class FilledTables { kRefuse, kEmpty };

// Asks the sender for a plan (rights to read, a snapshot), and with --create-schema makes what the
// standby lacks. Nothing is emptied yet. Errors: the sender's; kConfiguration, tables that hold
// rows (all of them); kStandby. After an error the sender keeps no snapshot, and the standby
// nothing but a schema that was made whole.
Result<PreparedCopy> prepare_copy(apply::StandbySession& standby, const ReceiverOptions& options,
                                  const pb::Caller& caller,
                                  const std::vector<pb::TableName>& tables, FilledTables filled,
                                  const transport::OnWaiting& waiting, const std::stop_token& stop);

// The tables that the sender ships and --tables takes.
Result<std::vector<pb::TableName>> tables_to_copy(const ReceiverOptions& options,
                                                  const pb::Welcome& welcome);

// There will be no copy: the sender need not keep the snapshot, which holds back the master's
// vacuum. It goes by itself in a while when the sender is not reached.
void give_up_copy(const ReceiverOptions& options, const pb::Caller& caller,
                  const pb::CopyPlan& plan);

// Prints what --create-schema would make on the standby.
Result<void> print_schema(const ReceiverOptions& options, const std::stop_token& stop);

}  // namespace bitacora::engine
