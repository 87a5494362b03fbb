#include "apply/conflict_policy.h"

#include <algorithm>

namespace bitacora::apply {

const char* name_of(ConflictPolicy policy) {
  return kConflictPolicyNames.at(static_cast<std::size_t>(policy));
}

std::optional<ConflictPolicy> conflict_policy(std::string_view name) {
  const auto* const found =
      std::find(kConflictPolicyNames.begin(), kConflictPolicyNames.end(), name);
  if (found == kConflictPolicyNames.end()) return std::nullopt;
  return static_cast<ConflictPolicy>(found - kConflictPolicyNames.begin());
}

ConflictPolicy ConflictPolicies::of(std::string_view schema, std::string_view table) const {
  const auto rule = std::find_if(rules_.rbegin(), rules_.rend(), [&](const Rule& candidate) {
    return candidate.tables.matches(schema, table);
  });
  return rule == rules_.rend() ? ConflictPolicy::kError : rule->policy;
}

bool ConflictPolicies::resolves_any() const {
  return std::any_of(rules_.begin(), rules_.end(),
                     [](const Rule& rule) { return rule.policy != ConflictPolicy::kError; });
}

}  // namespace bitacora::apply
