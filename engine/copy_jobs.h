// The parts that a copy's connections share out among themselves.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "apply/copied_tables.h"
#include "apply/part_writer.h"
#include "apply/table_map.h"
#include "base/error.h"
#include "engine/copy_progress.h"
#include "proto/replication.pb.h"

namespace bitacora::engine {

struct CopyingTable {
  apply::CopiedTable copied;  // in the snapshot that is copied
  std::string name;           // schema.table
  apply::CopyTarget target;
  std::uint32_t relation_oid = 0;
  std::vector<std::string> columns;  // the master's names of the target's
};

struct CopyJob {
  const CopyingTable* table = nullptr;
  apply::CopiedPart part;
  std::uint64_t disk_bytes = 0;  // of the part, on the master
};

// How a planned table is read and written. COPY BINARY only where every value's form means the same
// on both servers and can be read back.
CopyingTable copying_table(const pb::CopyTablePlan& plan, const apply::MappedTable& mapped,
                           apply::CopiedTable copied);

// Thread-safe once all tables are added.
class CopyJobs {
 public:
  // Copies `parts`, which are some of all that it is divided into.
  void add(CopyingTable table, const pb::CopyTablePlan& plan,
           const std::vector<apply::CopiedPart>& parts);
  // Of all of them, for the progress.
  std::vector<CopyProgress::Expected> expected() const;
  const std::vector<std::unique_ptr<CopyingTable>>& tables() const { return tables_; }

  // The largest that is left; empty: none is.
  std::optional<CopyJob> next();
  // True when it was its table's last one.
  bool done(const CopyJob& job);
  std::size_t left() const;

 private:
  std::vector<std::unique_ptr<CopyingTable>> tables_;
  mutable std::mutex mutex_;
  // Guarded by mutex_:
  std::vector<CopyJob> jobs_;  // the largest last
  std::map<const CopyingTable*, std::size_t> left_;
};

}  // namespace bitacora::engine
