#include "base/backoff.h"

#include <gtest/gtest.h>

#include <vector>

namespace bitacora {
namespace {

using std::chrono::milliseconds;

TEST(Backoff, DoublesUpToTheLargestAndStartsAgainAfterReset) {
  struct Case {
    const char* name;
    Backoff backoff;
    std::vector<int> waits;
  };
  for (Case c : {
           Case{"defaults", Backoff(), {100, 200, 400, 800, 1600, 3200, 5000, 5000}},
           Case{"largest is met exactly",
                Backoff(milliseconds(10), milliseconds(40)),
                {10, 20, 40, 40}},
           Case{"one step", Backoff(milliseconds(7), milliseconds(7)), {7, 7, 7}},
       }) {
    SCOPED_TRACE(c.name);
    for (int round = 0; round < 2; ++round) {
      for (const int wait : c.waits) EXPECT_EQ(c.backoff.next(), milliseconds(wait));
      c.backoff.reset();
    }
  }
}

}  // namespace
}  // namespace bitacora
