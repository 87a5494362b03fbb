// --conflict PATTERN=POLICY: what is done at a conflict in which tables.
#pragma once

#include <string>
#include <vector>

#include "apply/conflict_policy.h"
#include "base/error.h"

namespace bitacora::engine {

// PATTERN is schema.table with * and ?, or several with commas between them, of which those with a
// leading ! exclude. kUsage, with the four policies and the one that was probably meant.
Result<apply::ConflictPolicies> parse_conflict_rules(const std::vector<std::string>& rules);

}  // namespace bitacora::engine
