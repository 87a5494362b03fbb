// One master and everybody who follows it, over any number of histories.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/throwaway_cluster.h"
#include "tests/equivalence/follower.h"
#include "tests/equivalence/history.h"
#include "tests/postgres/pair.h"

namespace bitacora::equivalence {

class Playground {
 public:
  Playground(const std::vector<ApplyPath>& paths, Partitions partitions);

  // Plays the history from empty tables and says how the followers' content differs; empty: not at
  // all. Throws when somebody does not get to the end. Then, and after a difference, the object is
  // used up.
  std::string play(const History& history);

 private:
  std::uint64_t finish();
  void wait_for_all(std::uint64_t finished);
  void before_steps(Delivery delivery);
  void after_steps(Delivery delivery, std::uint64_t last);
  std::string differences(Detail detail);

  const Partitions partitions_;
  engine::ThrowawayCluster master_;
  engine::ThrowawayCluster standby_;
  harness::Pair pair_;  // its sender serves all; its receiver and standby are not used
  std::vector<std::unique_ptr<pqxx::connection>> sessions_;
  std::vector<std::unique_ptr<PathFollower>> paths_;
  std::unique_ptr<BuiltInFollower> built_in_;
  std::uint64_t finished_ = 0;
};

}  // namespace bitacora::equivalence
