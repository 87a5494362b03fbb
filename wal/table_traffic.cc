#include "wal/table_traffic.h"

#include <algorithm>

#include "proto/relation.h"

namespace bitacora::wal {

void TableTraffic::describe(const pb::Relation& relation) {
  const std::lock_guard lock(mutex_);
  by_oid_[relation.oid()].table = proto::qualified_name(relation);
}

void TableTraffic::add(const std::vector<proto::WrittenRows>& written) {
  const std::lock_guard lock(mutex_);
  for (const auto& rows : written) {
    auto& share = by_oid_[rows.relation_oid];
    share.rows += rows.count;
    share.bytes += rows.bytes;
  }
}

std::vector<TableShare> TableTraffic::shares() const {
  std::vector<TableShare> shares;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [oid, share] : by_oid_) shares.push_back(share);
  }
  std::erase_if(shares, [](const TableShare& share) { return share.rows == 0; });
  std::stable_sort(shares.begin(), shares.end(),
                   [](const auto& a, const auto& b) { return a.bytes > b.bytes; });
  return shares;
}

}  // namespace bitacora::wal
