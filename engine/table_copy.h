// The receiver's side of a copy: brings every table that bitacora.copied_tables has as missing to
// the standby, by several connections at a time, and does what comes after the rows.
#pragma once

#include <memory>
#include <optional>
#include <stop_token>
#include <vector>

#include "apply/copied_tables.h"
#include "apply/standby_session.h"
#include "base/error.h"
#include "engine/copy_progress.h"
#include "engine/options.h"
#include "proto/replication.pb.h"
#include "transport/copy_client.h"

namespace bitacora::engine {

class CopyJobs;
struct CopyJob;
struct CopyingTable;

// One thread owns it; run() has others of its own.
class TableCopy {
 public:
  TableCopy(const ReceiverOptions& options, pb::Caller caller, CopyProgress& progress);
  ~TableCopy();

  // Returns when nothing is missing. `begun` is a plan of all missing tables that was asked for
  // already. What was copied before an error stays, and is not copied again as long as the sender
  // keeps the snapshot; tables that are not complete begin anew without it. `standby` is used
  // before and after, not meanwhile.
  Result<void> run(apply::StandbySession& standby, std::optional<pb::CopyPlan> begun,
                   const std::stop_token& stop);

 private:
  Result<void> copy_rows(apply::StandbySession& standby, std::vector<apply::CopiedTable> missing,
                         std::optional<pb::CopyPlan> begun, const std::stop_token& stop);
  Result<pb::CopyPlan> ask_for_plan(const std::vector<apply::CopiedTable>& missing,
                                    const std::stop_token& stop);
  Result<void> prepare(apply::StandbySession& standby, const pb::CopyPlan& plan,
                       const std::vector<apply::CopiedTable>& missing, CopyJobs& jobs);
  Result<void> give_up_unpublished(apply::StandbySession& standby, const pb::CopyPlan& plan,
                                   const std::vector<apply::CopiedTable>& missing);
  Result<std::vector<apply::CopiedPart>> prepare_parts(apply::StandbySession& standby,
                                                       const pb::CopyTablePlan& planned, bool begun,
                                                       CopyingTable& table,
                                                       std::vector<apply::CopiedTable>& whole);
  Result<void> work_on(CopyJobs& jobs, const pb::CopyPlan& plan, const std::stop_token& stop);
  Result<void> work(CopyJobs& jobs, const pb::CopyPlan& plan, const std::stop_token& stop);
  Result<void> copy_part(const CopyJob& job, apply::StandbySession& session,
                         transport::CopyParts& parts);
  Result<void> finish_table(apply::StandbySession& session, const CopyingTable& table);
  Result<void> do_steps(apply::StandbySession& standby, const std::stop_token& stop);
  Result<std::vector<apply::StandbySession>> connect(std::size_t sessions);

  const ReceiverOptions& options_;
  const pb::Caller caller_;
  CopyProgress& progress_;
  std::unique_ptr<transport::CopyClient> sender_;
};

}  // namespace bitacora::engine
