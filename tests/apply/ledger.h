// A master that is computed: transactions that move money between a few accounts and append their
// number to a log, as batches, and what a reader must see after each of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "base/lsn.h"
#include "proto/replication.pb.h"

namespace bitacora::apply {

// One thread makes transactions; any may compare what it saw.
class Ledger {
 public:
  using Batch = std::shared_ptr<const pb::ChangeBatch>;

  Ledger(std::int64_t accounts, unsigned seed);

  // The tables as they are before the first transaction.
  std::string schema_sql() const;

  void transaction();
  // Everything since the last call.
  Batch take();
  MasterLsn end() const { return end_; }
  std::int64_t transactions() const { return number_; }

  // One statement whose answer is some state; and whether it is one that the master was in, whose
  // transaction's number `number` becomes.
  static std::string reader_sql();
  bool was_in_state(const std::string& seen, std::int64_t& number) const;

 private:
  pb::Part& add_part();
  void add_row(std::uint32_t relation, pb::RowOperation operation,
               const std::vector<std::int64_t>& values);
  std::string state() const;

  std::mt19937 random_;
  std::vector<std::int64_t> balances_;
  std::int64_t number_ = 0;
  MasterLsn end_;
  std::shared_ptr<pb::ChangeBatch> batch_;
  mutable std::mutex mutex_;
  std::vector<std::size_t> digests_;  // of states, by number; guarded by mutex_
};

}  // namespace bitacora::apply
