// bitacora.targets: which of the standby's tables each subscription writes, so that two of them do
// not write one table unless both say so.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "apply/standby_session.h"
#include "apply/target_rules.h"
#include "base/error.h"

namespace bitacora::apply {

struct RegisteredTarget {
  TargetName table;
  bool shared = false;
};

// kConfiguration: another subscription, one with a progress row, writes one of them, and not both
// say `shared`.
Result<void> check_targets(StandbySession& standby, const std::string& subscription,
                           const std::vector<RegisteredTarget>& targets);

// The same, and notes them in a transaction of its own: in place of what was noted of this
// subscription before, or beside it.
Result<void> register_targets(StandbySession& standby, const std::string& subscription,
                              const std::vector<RegisteredTarget>& targets);
Result<void> add_targets(StandbySession& standby, const std::string& subscription,
                         const std::vector<RegisteredTarget>& targets);

// kConfiguration: two tables of the master go to one of the standby's, and not both say `shared`.
Result<void> check_apart(const TargetRules& rules, const TargetName& a, const TargetName& b);

struct SourceTable {
  TargetName name;        // on the master
  std::uint32_t oid = 0;  // the master's; 0: not known. By it a table that was renamed is known.
};

std::vector<RegisteredTarget> targets_of(const TargetRules& rules,
                                         const std::vector<SourceTable>& tables);

// What one receiver writes. A table that joins while it runs is claimed before its first change is
// applied, and before its rows on the standby may be emptied for a copy. Thread-safe; waits for the
// standby.
class TargetClaims {
 public:
  // What the sender ships and the receiver takes, as far as that is known.
  using Shipped = std::function<std::vector<SourceTable>()>;
  TargetClaims(std::string conninfo, std::string subscription, const TargetRules& rules,
               Shipped shipped)
      : conninfo_(std::move(conninfo)),
        subscription_(std::move(subscription)),
        rules_(rules),
        shipped_(std::move(shipped)) {}

  // Tables that fit each other. What an earlier life of the receiver noted is forgotten.
  Result<void> begin(StandbySession& standby, const std::vector<SourceTable>& tables);
  // kConfiguration: another receiver writes a target of theirs, or another table goes there that is
  // claimed, shipped or among them; and not both say `shared`.
  Result<void> check(StandbySession& standby, const std::vector<SourceTable>& tables);
  // The same, and notes them. Of tables that are claimed the standby is not asked.
  Result<void> claim(const std::vector<SourceTable>& tables);

 private:
  bool claimed(const SourceTable& table) const;
  Result<void> check_apart_from_others(const std::vector<SourceTable>& tables) const;
  void note(const std::vector<SourceTable>& tables);

  const std::string conninfo_;
  const std::string subscription_;
  const TargetRules& rules_;
  const Shipped shipped_;

  std::mutex mutex_;  // held while the standby is asked: of two claims the later one sees the other
  std::map<TargetName, std::uint32_t> claimed_;  // the oids; guarded by mutex_
};

}  // namespace bitacora::apply
