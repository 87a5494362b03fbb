// What happens on the master between two comparisons. Pure: a seed says all of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/equivalence/schema.h"

namespace bitacora::equivalence {

// How the transactions reach a receiver.
enum class Delivery {
  kLive,  // as they are committed
  kHeld,  // the standby holds up the first one: the others become one group
  kLate,  // the receivers start when all have been committed
};
const char* name_of(Delivery delivery);

struct Step {
  std::size_t session = 0;
  std::string sql;  // one simple query; BEGIN and COMMIT are steps of their own
};

inline constexpr std::size_t kSessionsMax = 3;

struct History {
  std::uint64_t seed = 0;
  Delivery delivery = Delivery::kLive;
  std::string population;  // from nothing to some rows
  // In this order, each when the one before has been answered: sessions overlap and never wait.
  std::vector<Step> steps;

  std::string sql() const;  // for a person
};

History make_history(std::uint64_t seed, Partitions partitions);

}  // namespace bitacora::equivalence
