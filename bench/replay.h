// A recorded spool applied once by the product's own code (ChangeFeed and Applier), in this
// process: nothing else is in its CPU time and memory, and every group's end is seen.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apply/apply_path.h"
#include "apply/checkpoint.h"
#include "bench/cpu_meter.h"
#include "transport/spool.h"

namespace bitacora::bench {

// What a receiver that has been stopped left in its --data-dir. Nobody else may use it meanwhile.
class RecordedSpool {
 public:
  // Throws when the directory holds no whole spool.
  explicit RecordedSpool(const std::string& data_dir);

  transport::Spool& spool() const { return *spool_; }

 private:
  std::optional<apply::Checkpoint> checkpoint_;  // for its lock
  std::unique_ptr<transport::Spool> spool_;
};

struct ReplayOptions {
  std::string standby;       // conninfo
  std::string subscription;  // its progress row says where to begin; without one the spool does
  apply::ApplyPath path = apply::ApplyPath::kAuto;
  int workers = 1;                          // connections that apply
  std::optional<std::size_t> set_rows_min;  // of FastPathOptions
};

struct Replayed {
  std::uint64_t transactions = 0;
  std::uint64_t rows = 0;
  std::uint64_t bytes = 0;  // of the changes, decompressed
  double seconds = 0;       // from the first look into the spool to the last COMMIT
  CpuSeconds cpu = {};      // receiver; standby (its backends) when it runs on this machine
  // From taking in a group's first change to seeing its COMMIT.
  std::vector<double> group_seconds = {};
  std::uint64_t peak_memory_bytes = 0;
  int exact_path_retries = 0;  // what the fast path had begun was taken back
};

// Throws when the spool cannot be applied to its end.
Replayed replay(transport::Spool& spool, const ReplayOptions& options);

}  // namespace bitacora::bench
