// The fast path: what many changes come to, written set-wise. See NetChanges for what it is, and
// SetWriter for how it is written.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "apply/exact_path.h"
#include "apply/exchange.h"
#include "apply/net_changes.h"
#include "apply/set_writer.h"
#include "base/error.h"

namespace bitacora::apply {

struct FastPathOptions {
  // Fewer go row by row, in one trip: INSERTs, and UPDATEs or DELETEs, which are staged first
  // (bench/set_forms).
  std::size_t set_rows_min = 100;
  std::size_t staged_rows_min = 300;
  // So much is held back at most; then it is written, also inside of a transaction.
  std::size_t keys_max = 50'000;
  std::size_t bytes_max = 16u << 20;
};

// One thread owns it. What it holds back is written by flush(), in the group's transaction.
class FastPath {
 public:
  FastPath(Exchange& exchange, ExactPath& exact, PGconn* connection, FastPathOptions options)
      : exchange_(exchange), exact_(exact), writer_(connection), options_(options) {}

  // Where the rows of this block are to be added; null: they are to be applied one by one.
  Result<NetChanges*> changes(const SharedChanges& batch, MappedTable& table,
                              const pb::Rows& block);
  // After a block: writes when enough is held back.
  Result<void> on_block(const MappedTable& table, const pb::Rows& block);

  // Writes what is held back of one table, or of all.
  Result<void> flush(MappedTable& table);
  Result<void> flush();

  // Changes of the open group came through here: an error may be due to it.
  bool used() const { return used_; }
  const MappedTable* flushing() const { return flushing_; }
  void on_commit();

 private:
  struct Held {
    MappedTable* table;
    NetChanges changes;
    std::size_t counted = 0;  // of its keys, in keys_
  };

  Result<void> write(Held& held);
  Result<void> write_deletes(MappedTable& table, const std::vector<std::string_view>& keys);
  Result<void> write_updates(MappedTable& table, const NetChanges::Updates& updates);
  Result<void> write_inserts(MappedTable& table, const std::vector<std::string_view>& tuples);
  template <class Write>
  Result<void> set_wise(Write write);

  Exchange& exchange_;
  ExactPath& exact_;
  SetWriter writer_;
  const FastPathOptions options_;

  std::vector<std::unique_ptr<Held>> held_;  // in the order they first came
  std::unordered_map<const MappedTable*, Held*> by_table_;
  std::vector<SharedChanges> batches_;  // what `held_` points into
  std::size_t keys_ = 0;
  std::size_t bytes_ = 0;
  bool used_ = false;
  const MappedTable* flushing_ = nullptr;
};

}  // namespace bitacora::apply
