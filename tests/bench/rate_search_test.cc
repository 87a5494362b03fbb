#include "bench/rate_search.h"

#include <gtest/gtest.h>

namespace bitacora::bench {
namespace {

// The rate found when everything up to `limit` is kept, and in how many steps.
std::pair<double, int> searched(double limit, double ceiling, double precision) {
  RateSearch search(ceiling, precision);
  int steps = 0;
  while (const auto rate = search.next()) {
    search.on_step(*rate, *rate <= limit);
    ++steps;
  }
  return {search.most_kept(), steps};
}

TEST(RateSearch, FindsTheLimit) {
  for (const double limit : {60.0, 400.0, 500.0, 999.0}) {
    SCOPED_TRACE(limit);
    const auto [found, steps] = searched(limit, 1000, 0.05);
    EXPECT_LE(found, limit);
    EXPECT_GE(found, limit - 50);
    EXPECT_EQ(steps, 5);
  }
}

TEST(RateSearch, KeepsNothingWhenNothingWasKept) { EXPECT_EQ(searched(0, 1000, 0.05).first, 0); }

}  // namespace
}  // namespace bitacora::bench
