// A database on the master and those that follow it on the standby: alike before anything begins.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "base/lsn.h"
#include "bench/workload.h"
#include "engine/throwaway_cluster.h"

namespace bitacora::bench {

struct Servers {
  engine::ThrowawayCluster& master;
  engine::ThrowawayCluster& standby;
};

// Drops the slots of a database on the master that are left, when nobody reads them any more.
void drop_slots(const engine::ThrowawayCluster& master, const std::string& database);

// Each holds the workload's tables and one for marks: who shows a mark shows all that was committed
// before it.
class Databases {
 public:
  // All are called like the workload, the followers with a suffix each. `workload` outlives this.
  Databases(const Servers& servers, const Workload& workload, std::vector<std::string> suffixes);
  Databases(const Databases&) = delete;
  Databases& operator=(const Databases&) = delete;
  ~Databases();  // drops them, and the slots that are left

  const std::string& name() const { return workload_.name; }
  std::string master() const { return servers_.master.conninfo(name()); }
  std::string standby(const std::string& suffix) const {
    return servers_.standby.conninfo(name() + suffix);
  }

  // So that no turn pays for what the load or another one left.
  void settle() const;
  // Throws when a follower's tables differ from the master's: then nothing was measured.
  void compare() const;

  // The master's position after it.
  MasterLsn mark();
  // That the follower shows the last one. Whoever follows is watched by the same eyes.
  void await_mark(const std::string& suffix, const std::function<void()>& look_at_processes,
                  std::chrono::milliseconds timeout) const;

 private:
  void make(const engine::ThrowawayCluster& cluster, const std::string& name);

  Servers servers_;
  const Workload& workload_;
  const std::vector<std::string> suffixes_;
  std::vector<std::pair<const engine::ThrowawayCluster*, std::string>> made_;
  int marks_ = 0;
};

}  // namespace bitacora::bench
