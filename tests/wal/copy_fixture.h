// What the tests of the copy have in their hands: a snapshot, a plan in it, parts that are read.
#pragma once

#include <mutex>
#include <string>
#include <vector>

#include "tests/wal/every_version.h"
#include "wal/copy_plan.h"
#include "wal/copy_snapshot.h"
#include "wal/part_reader.h"

namespace bitacora::wal {

// Thread-safe.
class Heard {
 public:
  OnWaiting listener() {
    return [this](const std::string& what) {
      const std::lock_guard lock(mutex_);
      words_.push_back(what);
    };
  }
  std::size_t times() const {
    const std::lock_guard lock(mutex_);
    return words_.size();
  }
  std::string last() const {
    const std::lock_guard lock(mutex_);
    return words_.empty() ? "" : words_.back();
  }

 private:
  mutable std::mutex mutex_;
  std::vector<std::string> words_;
};

inline pb::TableName table_name(const std::string& name, const std::string& schema = "public") {
  pb::TableName table;
  table.set_schema(schema);
  table.set_name(name);
  return table;
}

// The publication is `p`.
class CopyFixture : public EveryVersion {
 protected:
  CopySnapshot snapshot() const {
    auto made = CopySnapshot::make(conninfo(), {});
    if (!made.ok()) throw std::runtime_error(one_line(made.error()));
    return std::move(made).value();
  }

  Result<std::vector<CopyPlanTable>> try_plan(CopySnapshot& in,
                                              const std::vector<std::string>& tables) const {
    std::vector<pb::TableName> names;
    for (const auto& name : tables) names.push_back(table_name(name));
    return plan_copy(in, conninfo(), "p", names, {});
  }
  CopyPlanTable plan(CopySnapshot& in, const std::string& table) const {
    auto planned = try_plan(in, {table});
    if (!planned.ok()) throw std::runtime_error(one_line(planned.error()));
    return planned->front();
  }

  // All columns of one piece.
  static pb::CopyPart whole(const CopyPlanTable& table, int piece = 0) {
    pb::CopyPart part;
    part.set_relation_oid(table.plan.relation().oid());
    part.set_piece_oid(table.plan.pieces(piece).oid());
    for (const auto& column : table.plan.relation().columns()) part.add_columns(column.name());
    return part;
  }
};

}  // namespace bitacora::wal
