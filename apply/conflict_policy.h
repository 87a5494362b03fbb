// What is done when a row of the standby is not what the master's change expects, table by table.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/name_pattern.h"

namespace bitacora::apply {

enum class ConflictPolicy {
  kError,      // stop and name the row
  kKeep,       // the standby's row stays, the change is left out
  kOverwrite,  // the row becomes what the master says, and what is in its way goes
  kSkip,       // the change is left out, also when the row itself is refused (SQLSTATE 22, 23)
};

inline constexpr std::array<const char*, 4> kConflictPolicyNames = {"error", "keep", "overwrite",
                                                                    "skip"};
const char* name_of(ConflictPolicy policy);
std::optional<ConflictPolicy> conflict_policy(std::string_view name);

class ConflictPolicies {
 public:
  struct Rule {
    std::string text;  // as it was given
    TablePatterns tables;
    ConflictPolicy policy;
  };

  void add(Rule rule) { rules_.push_back(std::move(rule)); }
  const std::vector<Rule>& rules() const { return rules_; }

  // The last rule that matches decides; without any it is kError.
  ConflictPolicy of(std::string_view schema, std::string_view table) const;
  // Whether bitacora.conflicts is needed.
  bool resolves_any() const;

 private:
  std::vector<Rule> rules_;
};

}  // namespace bitacora::apply
