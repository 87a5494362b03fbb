#include "engine/conflict_rule.h"

#include <sstream>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "engine/config_file.h"

namespace bitacora::engine {
namespace {

std::vector<std::string> comma_separated(const std::string& text) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, ',');) parts.push_back(part);
  return parts;
}

Error bad_rule(const std::string& rule, const std::string& what, const std::string& hint) {
  return {ErrorCode::kUsage, fmt::format("--conflict \"{}\": {}", rule, what), hint};
}

Result<apply::ConflictPolicies::Rule> parse_rule(const std::string& text) {
  const auto equals = text.rfind('=');
  if (equals == std::string::npos || equals == 0)
    return bad_rule(text, "not PATTERN=POLICY", "for example: --conflict 'public.*=overwrite'");
  const auto name = text.substr(equals + 1);
  const auto policy = apply::conflict_policy(name);
  if (!policy) {
    const std::vector<std::string> known(apply::kConflictPolicyNames.begin(),
                                         apply::kConflictPolicyNames.end());
    const auto meant = nearest(name, known);
    return bad_rule(text,
                    fmt::format("the policy \"{}\" is none of {}", name, fmt::join(known, ", ")),
                    meant.empty() ? "for example: --conflict 'public.*=overwrite'"
                                  : "did you mean " + meant + "?");
  }
  auto tables = TablePatterns::parse(comma_separated(text.substr(0, equals)));
  if (!tables.ok()) return tables.error();
  return apply::ConflictPolicies::Rule{text, std::move(*tables), *policy};
}

}  // namespace

Result<apply::ConflictPolicies> parse_conflict_rules(const std::vector<std::string>& rules) {
  apply::ConflictPolicies policies;
  for (const auto& rule : rules) {
    ASSIGN_OR_RETURN(auto parsed, parse_rule(rule));
    policies.add(std::move(parsed));
  }
  return policies;
}

}  // namespace bitacora::engine
