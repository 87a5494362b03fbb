#include "proto/relation.h"

#include <algorithm>

#include <fmt/format.h>

namespace bitacora::proto {

std::string sql_identifier(const std::string& name) {
  std::string quoted = "\"";
  for (const char c : name) {
    if (c == '"') quoted += '"';
    quoted += c;
  }
  return quoted + '"';
}

std::string quoted_name(const std::string& name) {
  const auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
  };
  const bool starts_with_digit = !name.empty() && name[0] >= '0' && name[0] <= '9';
  if (!name.empty() && !starts_with_digit && std::all_of(name.begin(), name.end(), plain))
    return name;
  return sql_identifier(name);
}

std::string qualified_name(const std::string& schema, const std::string& name) {
  return quoted_name(schema) + "." + quoted_name(name);
}

std::string qualified_name(const pb::Relation& relation) {
  return qualified_name(relation.schema(), relation.name());
}

std::optional<pb::ReplicaIdentity> replica_identity(char relreplident) {
  switch (relreplident) {
    case 'd':
      return pb::REPLICA_IDENTITY_DEFAULT;
    case 'n':
      return pb::REPLICA_IDENTITY_NOTHING;
    case 'f':
      return pb::REPLICA_IDENTITY_FULL;
    case 'i':
      return pb::REPLICA_IDENTITY_INDEX;
    default:
      return std::nullopt;
  }
}

bool same_identity(const pb::Identity& a, const pb::Identity& b) {
  return a.system_identifier() == b.system_identifier() && a.database() == b.database() &&
         a.slot() == b.slot() && a.stream() == b.stream();
}

std::string describe(const pb::Identity& identity) {
  return fmt::format("system {}, database {}, slot {}, stream {}", identity.system_identifier(),
                     identity.database(), identity.slot(), identity.stream());
}

}  // namespace bitacora::proto
