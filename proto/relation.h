// Small helpers over the generated Relation and Identity messages.
#pragma once

#include <optional>
#include <string>

#include "proto/replication.pb.h"

namespace bitacora::proto {

// The version of the wire described in FORMAT.md. Both sides must speak the same one.
inline constexpr std::uint32_t kWireVersion = 2;

// OIDs below this belong to built-in objects and mean the same on every server
// (FirstGenbkiObjectId).
inline constexpr std::uint32_t kFirstGenbkiOid = 10000;

// schema.table for messages.
std::string qualified_name(const pb::Relation& relation);
std::string qualified_name(const std::string& schema, const std::string& name);

// A name for messages: in double quotes unless it is a plain lower-case word. SQL takes
// sql_identifier().
std::string quoted_name(const std::string& name);

// A name in double quotes, always: for SQL, where a plain word may be reserved.
std::string sql_identifier(const std::string& name);

// pg_class.relreplident, as pgoutput sends it too; empty for a letter that is none.
std::optional<pb::ReplicaIdentity> replica_identity(char relreplident);

bool same_identity(const pb::Identity& a, const pb::Identity& b);

// "system 7012..., database shop, slot bitacora_main, stream main"
std::string describe(const pb::Identity& identity);

}  // namespace bitacora::proto
