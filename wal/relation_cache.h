// The relations a replication connection has described so far, by OID. A new connection begins with
// an empty cache: pgoutput describes every relation again before its first row.
#pragma once

#include <cstdint>
#include <unordered_map>

#include "proto/own_names.h"
#include "proto/replication.pb.h"

namespace bitacora::wal {

// Receivers keep tables of their own on a server that may be a master too, where FOR ALL TABLES
// publishes them: they are about that server and nobody else.
inline bool is_own(const pb::Relation& relation) { return relation.schema() == proto::kOwnSchema; }

class RelationCache {
 public:
  void put(const pb::Relation& relation) { shipped_[relation.oid()] = !is_own(relation); }

  bool knows(std::uint32_t oid) const { return shipped_.contains(oid); }
  // It is known, and its changes are for receivers.
  bool ships(std::uint32_t oid) const {
    const auto found = shipped_.find(oid);
    return found != shipped_.end() && found->second;
  }

 private:
  std::unordered_map<std::uint32_t, bool> shipped_;
};

}  // namespace bitacora::wal
