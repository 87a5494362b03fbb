// Figures of replays for people and for scripts.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bench/race.h"
#include "bench/replay.h"

namespace bitacora::bench {

// One way to apply, and what its runs came to.
struct ReplayWay {
  std::string apply_path;
  int workers = 1;
  std::vector<Replayed> runs = {};
};

struct ReplayFigures {
  std::string workload;
  std::string title;
  std::uint64_t spool_bytes = 0;
  std::vector<ReplayWay> ways;
  std::vector<Turn> builtin = {};  // the same changes by the built-in subscription, when asked for
};

// Medians of the runs; latencies over all of them. Against the built-in one's best rate, and its
// median CPU seconds.
std::string table(const ReplayFigures& figures);
nlohmann::ordered_json as_json(const ReplayFigures& figures);

}  // namespace bitacora::bench
