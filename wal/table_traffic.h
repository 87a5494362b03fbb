// How much of each table was read to be shipped.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "proto/batch_writer.h"

namespace bitacora::wal {

struct TableShare {
  std::string table;  // schema.name
  std::uint64_t rows = 0;
  std::uint64_t bytes = 0;  // of its rows, before compression
};

// Thread-safe.
class TableTraffic {
 public:
  void describe(const pb::Relation& relation);
  void add(const std::vector<proto::WrittenRows>& written);

  // Since the start, the largest first.
  std::vector<TableShare> shares() const;

 private:
  mutable std::mutex mutex_;
  std::map<std::uint32_t, TableShare> by_oid_;  // guarded by mutex_
};

}  // namespace bitacora::wal
