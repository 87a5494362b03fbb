// Where to continue after a start: the standby's progress row judges, the checkpoint only remembers
// (rule I4). Pure.
#pragma once

#include <optional>

#include "apply/progress.h"
#include "base/error.h"
#include "base/lsn.h"

namespace bitacora::apply {

struct Resume {
  bool first_start = false;
  bool copies = false;  // the first copy is not over: the progress row stands at 0/0
  MasterLsn from;       // 0 on the first start: wherever the sender's slot begins
};

// kState errors: the checkpoint belongs to another stream than the row, or the row is gone although
// the checkpoint says that something was applied.
Result<Resume> reconcile(const std::optional<Progress>& row,
                         const std::optional<Progress>& checkpoint);

// What is spooled belongs to what is applied. kState, naming both.
Result<void> check_spool_identity(const pb::Identity& applied, const pb::Identity& spooled);

// The sender is the one our state belongs to. kState, naming both.
Result<void> check_identity(const pb::Identity& ours, const pb::Identity& senders);

}  // namespace bitacora::apply
