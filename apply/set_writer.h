// Writes many rows of one table at once: COPY, and a join with a temporary table that was filled by
// COPY.
#pragma once

#include <libpq-fe.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "apply/net_changes.h"
#include "apply/set_statement.h"
#include "apply/table_map.h"
#include "base/error.h"

namespace bitacora::apply {

// Uses the connection outside of pipelines, inside an open transaction. After an error that
// transaction is lost. One thread.
class SetWriter {
 public:
  explicit SetWriter(PGconn* connection) : connection_(connection) {}

  // What was staged is gone.
  void on_commit() { ++transaction_; }

  // Each fails when another number of rows than asked for was touched: then the standby does not
  // hold what the master held, or a key is not unique there.
  Result<void> erase(const MappedTable& table, const std::vector<std::string_view>& keys);
  Result<void> update(const MappedTable& table, const NetChanges::Updates& updates);
  Result<void> insert(const MappedTable& table, const std::vector<std::string_view>& tuples);

 private:
  // One per table and shape: the shape's columns, empty for deletes.
  struct Stage {
    StagedStatement statement;
    std::uint64_t transaction = 0;  // it was last filled in
    std::chrono::steady_clock::time_point made_at = {};
  };
  struct Size {
    std::chrono::steady_clock::time_point asked_at = {};
    std::uint64_t bytes = 0;
  };
  template <class Build>
  Result<Stage*> stage(const MappedTable& table, const std::string& shape, Build build);
  Result<JoinBy> join_by(const MappedTable& table, std::size_t rows, std::size_t bytes);
  Result<void> change(const MappedTable& table, const Stage& stage, std::size_t rows,
                      std::size_t bytes);

  // Sends rows, `append` writing each into a buffer.
  template <class Append>
  Result<void> copy(const CopyStatement& statement, std::size_t rows, Append append);
  Result<void> copy_tuples(const MappedTable& table, const CopyStatement& statement,
                           const std::vector<std::string_view>& tuples, std::size_t& bytes);
  // Rows the last command touched, or the number that the query answered.
  Result<std::uint64_t> run(std::string_view doing, const std::string& sql);

  PGconn* connection_;
  std::map<std::pair<const MappedTable*, std::string>, Stage> stages_;
  std::map<const MappedTable*, Size> sizes_;
  std::uint64_t transaction_ = 1;
};

}  // namespace bitacora::apply
