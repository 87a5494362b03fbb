// Which rows a group of transactions touches, and which of the groups in flight it must not
// overtake therefore. Pure.
#pragma once

#include <cstdint>
#include <utility>

#include <absl/container/flat_hash_map.h>
#include <absl/container/flat_hash_set.h>

#include "apply/table_plan.h"
#include "base/error.h"
#include "proto/replication.pb.h"
#include "proto/row_block.h"

namespace bitacora::apply {

class Footprint {
 public:
  // Errors: a block that cannot be read. Not for tables whose plan reaches everything.
  Result<void> add(const TablePlan& plan, const pb::Rows& block);

  bool empty() const { return tables_.empty(); }
  // Keys are hashes: two that are taken for one only make a group wait.
  const absl::flat_hash_set<std::uint64_t>& keys() const { return keys_; }
  // Relation → whether by more than keys.
  const absl::flat_hash_map<std::uint32_t, bool>& tables() const { return tables_; }

 private:
  bool add_keys(const TablePlan& plan, std::uint32_t relation, pb::RowOperation operation,
                const proto::Row& row);
  bool add_key(const TablePlan& plan, std::uint32_t relation, const proto::Tuple& tuple);

  absl::flat_hash_set<std::uint64_t> keys_;
  absl::flat_hash_map<std::uint32_t, bool> tables_;
};

// The groups in flight, numbered in commit order. Since they end in that order, the last one that a
// group meets is all that it has to wait for.
class InFlight {
 public:
  // The last group that meets it; 0: none.
  std::uint64_t last_met(const Footprint& group) const;
  void add(std::uint64_t number, const Footprint& group);
  // It is the oldest one.
  void remove(std::uint64_t number, const Footprint& group);

 private:
  struct Table {
    std::uint64_t last = 0;
    std::uint64_t last_whole = 0;
  };

  absl::flat_hash_map<std::uint64_t, std::uint64_t> keys_;
  absl::flat_hash_map<std::uint32_t, Table> tables_;
};

}  // namespace bitacora::apply
