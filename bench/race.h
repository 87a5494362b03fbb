// One workload, several rounds: the master does the same work for two followers, which are held
// back meanwhile and then timed one after the other, in turn first.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "bench/cpu_meter.h"
#include "bench/databases.h"
#include "bench/workload.h"

namespace bitacora::bench {

struct Turn {
  double seconds = 0;
  std::optional<double> start_seconds = {};  // of these, until the slot was being read
  CpuSeconds cpu = {};
  std::optional<std::uint64_t> spool_bytes = {};  // what came over the wire
};

enum class Way {
  kCatchUp,    // ours, from the receiver's start until all is visible on the standby
  kApplyOnly,  // ours, when all is in the receiver's spool, but for its tables' locks
  kBuiltin,    // from ENABLE until all is visible
};

struct Figures {
  std::string workload;
  std::string title;
  std::uint64_t changes = 0;  // rows, in one round: the median
  std::map<Way, std::vector<Turn>> turns;
  int exact_path_retries = 0;  // see Receiver
};

// Throws when the followers' tables differ from the master's at the end: then nothing was measured.
// Leaves nothing on the servers.
Figures race(const Servers& servers, const Workload& workload, int rounds);

}  // namespace bitacora::bench
