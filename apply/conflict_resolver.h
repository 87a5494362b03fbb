// Settles one row that the standby refused, as its table's policy says, and logs it, in the group's
// transaction.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "apply/conflict.h"
#include "apply/conflict_log.h"
#include "apply/conflict_statement.h"
#include "apply/exact_path.h"
#include "apply/guarded_exchange.h"
#include "apply/table_map.h"
#include "base/error.h"
#include "proto/row_block.h"

namespace bitacora::apply {

// A change that waits for its turn.
struct HeldRow {
  SharedChanges batch;  // keeps what the others point into
  RowOrigin origin;
  MappedTable* table = nullptr;
  pb::RowOperation operation = pb::INSERT;
  proto::Row row;
  MasterLsn commit_lsn;
  std::int64_t commit_time_usec = 0;
};

// One thread owns it.
class ConflictResolver {
 public:
  ConflictResolver(GuardedExchange& guarded, ExactPath& exact, const ConflictPolicies& policies,
                   const std::string& subscription, std::string conninfo)
      : guarded_(guarded),
        exact_(exact),
        policies_(policies),
        conninfo_(std::move(conninfo)),
        log_(guarded, subscription) {}

  // Nothing of the row is on the standby. An error, the row's own, when the policy does not help.
  Result<void> resolve(const HeldRow& held, RowRefusal refusal);
  std::uint64_t resolved() const { return resolved_; }

 private:
  struct Known {
    std::set<std::string> asked;  // constraints that an error named
    std::vector<UniqueIndex> indexes;
  };

  Result<Situation> look(const HeldRow& change, const RowRefusal& refusal, ConflictPolicy policy);
  Result<std::vector<UniqueIndex>> indexes(const HeldRow& change, const RowRefusal& refusal);
  Result<void> judge_first(const HeldRow& held, const RowRefusal& refusal,
                           const Situation& situation, Conflict& conflict);
  // What is to be done instead of the change; empty: nothing.
  Result<std::optional<HeldRow>> instead(const HeldRow& change, const Situation& situation,
                                         const Conflict& conflict);
  Result<void> complete(HeldRow& change);
  Result<std::optional<RowRefusal>> act(const std::optional<HeldRow>& change,
                                        const std::vector<LocalRow>& deletes,
                                        const Conflict& conflict);

  GuardedExchange& guarded_;
  ExactPath& exact_;
  const ConflictPolicies& policies_;
  const std::string conninfo_;  // renders the row of an error
  ConflictLog log_;
  std::map<const MappedTable*, Known> known_;
  std::uint64_t resolved_ = 0;
};

}  // namespace bitacora::apply
