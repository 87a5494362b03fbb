#include "apply/reconcile.h"

#include <fmt/format.h>

#include "proto/relation.h"

namespace bitacora::apply {

Result<Resume> reconcile(const std::optional<Progress>& row,
                         const std::optional<Progress>& checkpoint) {
  if (!row && !checkpoint) return Resume{true, false, {}};
  if (!row) {
    return Error{ErrorCode::kState,
                 fmt::format("the data directory was applied up to {}, but the standby has no "
                             "progress row: this is another "
                             "standby or an older state of it",
                             to_string(checkpoint->applied_lsn)),
                 "point --standby at the right database, or begin anew with an empty --data-dir "
                 "and equal tables"};
  }
  if (checkpoint && !proto::same_identity(row->identity, checkpoint->identity)) {
    return Error{
        ErrorCode::kState,
        fmt::format("the data directory belongs to ({}), the standby's progress row to ({})",
                    proto::describe(checkpoint->identity), proto::describe(row->identity)),
        "give each receiver its own --data-dir and --name"};
  }
  return Resume{false, !row->applied_lsn.valid(), row->applied_lsn};
}

Result<void> check_spool_identity(const pb::Identity& applied, const pb::Identity& spooled) {
  if (proto::same_identity(applied, spooled)) return {};
  return Error{ErrorCode::kState,
               fmt::format("the spool in the data directory holds changes of ({}), the standby has "
                           "those of ({})",
                           proto::describe(spooled), proto::describe(applied)),
               "give each receiver its own --data-dir"};
}

Result<void> check_identity(const pb::Identity& ours, const pb::Identity& senders) {
  if (proto::same_identity(ours, senders)) return {};
  return Error{ErrorCode::kState,
               fmt::format("this receiver follows ({}), the sender ships ({})",
                           proto::describe(ours), proto::describe(senders)),
               "point --sender at the right one, or give this pair its own --name and --data-dir"};
}

}  // namespace bitacora::apply
