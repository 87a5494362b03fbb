#include "apply/footprint.h"

#include <algorithm>
#include <string>
#include <string_view>

#include <absl/hash/hash.h>

#include "base/check.h"

namespace bitacora::apply {

Result<void> Footprint::add(const TablePlan& plan, const pb::Rows& block) {
  CHECK(plan.reach != Reach::kEverything);
  bool& whole = tables_[block.relation_oid()];
  whole |= plan.reach == Reach::kTable;
  proto::RowBlockReader reader(block, plan.columns.size());
  proto::Row row;
  while (!whole && !reader.done()) {
    RETURN_IF_ERROR(reader.next(row));
    whole = !add_keys(plan, block.relation_oid(), block.operation(), row);
  }
  return {};
}

// False: the keys do not tell.
bool Footprint::add_keys(const TablePlan& plan, std::uint32_t relation, pb::RowOperation operation,
                         const proto::Row& row) {
  // Without a key a row is found by all its values; a new one is in nobody's way.
  if (plan.locator.empty()) return operation == pb::INSERT;
  const bool has_old = proto::has_old_tuple(operation);
  const bool has_new = proto::has_new_tuple(operation);
  return (!has_old || add_key(plan, relation, row.old_tuple)) &&
         (!has_new || add_key(plan, relation, row.new_tuple));
}

bool Footprint::add_key(const TablePlan& plan, std::uint32_t relation, const proto::Tuple& tuple) {
  std::size_t hash = absl::HashOf(relation);
  for (const auto column : plan.locator) {
    const auto& value = tuple[column];
    // The same value as text has other bytes.
    if (value.kind != proto::ValueKind::kBinary) return false;
    hash = absl::HashOf(hash, value.bytes);
  }
  keys_.insert(hash);
  return true;
}

std::uint64_t InFlight::last_met(const Footprint& group) const {
  std::uint64_t last = 0;
  for (const auto& [relation, whole] : group.tables()) {
    const auto table = tables_.find(relation);
    if (table == tables_.end()) continue;
    last = std::max(last, whole ? table->second.last : table->second.last_whole);
  }
  for (const auto key : group.keys()) {
    const auto met = keys_.find(key);
    if (met != keys_.end()) last = std::max(last, met->second);
  }
  return last;
}

void InFlight::add(std::uint64_t number, const Footprint& group) {
  for (const auto& [relation, whole] : group.tables()) {
    auto& table = tables_[relation];
    table.last = number;
    if (whole) table.last_whole = number;
  }
  for (const auto key : group.keys()) keys_[key] = number;
}

void InFlight::remove(std::uint64_t number, const Footprint& group) {
  for (const auto& [relation, whole] : group.tables()) {
    const auto table = tables_.find(relation);
    if (table == tables_.end()) continue;
    if (table->second.last_whole <= number) table->second.last_whole = 0;
    if (table->second.last <= number) tables_.erase(table);
  }
  for (const auto key : group.keys()) {
    const auto met = keys_.find(key);
    if (met != keys_.end() && met->second <= number) keys_.erase(met);
  }
}

}  // namespace bitacora::apply
