// bitacora.targets: which of the standby's tables each subscription writes, so that two of them do
// not write one table unless both say so.
#pragma once

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

// The same, and notes them in place of what was noted of this subscription before, in a transaction
// of its own.
Result<void> register_targets(StandbySession& standby, const std::string& subscription,
                              const std::vector<RegisteredTarget>& targets);

}  // namespace bitacora::apply
