// The relations a replication connection has described so far, by OID. A new connection begins with
// an empty cache: pgoutput describes every relation again before its first row.
#pragma once

#include <cstdint>
#include <unordered_map>

#include "proto/replication.pb.h"

namespace bitacora::wal {

class RelationCache {
 public:
  void put(const pb::Relation& relation) {
    column_counts_[relation.oid()] = relation.columns_size();
  }

  bool knows(std::uint32_t oid) const { return column_counts_.contains(oid); }

 private:
  std::unordered_map<std::uint32_t, int> column_counts_;
};

}  // namespace bitacora::wal
