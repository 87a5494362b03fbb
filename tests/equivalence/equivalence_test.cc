// Random histories on real servers: every way of applying ends with the master's content, and with
// what PostgreSQL's own subscription makes of it.
//   BITACORA_EQUIVALENCE_HISTORIES=n plays the first n (100), a fifth of them by roots
//   BITACORA_EQUIVALENCE_SEED=n plays one again, or HISTORIES from it on
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <optional>
#include <string>

#include "tests/equivalence/history.h"
#include "tests/equivalence/playground.h"

namespace bitacora::equivalence {
namespace {

constexpr std::uint64_t kHistories = 100;

const std::vector<ApplyPath>& paths() {
  static const std::vector<ApplyPath> all{
      {"exact", {"--apply-path", "exact"}},
      {"auto", {}},
      {"fast", {"--apply-path", "fast"}},
      {"workers", {"--workers", "4"}},
  };
  return all;
}

std::optional<std::uint64_t> number(const char* variable) {
  const char* text = std::getenv(variable);
  if (text == nullptr) return std::nullopt;
  return std::strtoull(text, nullptr, 10);
}

// What went wrong; empty: nothing.
std::string played(Playground& playground, const History& history) {
  try {
    return playground.play(history);
  } catch (const std::exception& e) {
    return e.what();
  }
}

void play_all(Partitions partitions, std::uint64_t one_in) {
  const auto seed = number("BITACORA_EQUIVALENCE_SEED");
  const auto first = seed.value_or(1);
  const auto count = number("BITACORA_EQUIVALENCE_HISTORIES").value_or(seed ? 1 : kHistories);
  const auto end = first + (count + one_in - 1) / one_in;
  Playground playground(paths(), partitions);
  std::size_t steps = 0;
  for (auto next = first; next < end; ++next) {
    const auto history = make_history(next, partitions);
    steps += history.steps.size();
    const auto wrong = played(playground, history);
    if (wrong.empty()) continue;
    // What differs once would differ in every history after it.
    FAIL() << "BITACORA_EQUIVALENCE_SEED=" << next << "\n" << history.sql() << "\n" << wrong;
  }
  std::cout << end - first << " histories of " << steps << " steps\n";
}

TEST(Equivalence, OfEveryPath) { play_all(Partitions::kAlike, 1); }

// Only two of the tables differ from those above.
TEST(Equivalence, OfEveryPathByRoots) { play_all(Partitions::kOfTheirOwn, 5); }

TEST(Histories, AreWhatTheirSeedSays) {
  const auto sql = [](std::uint64_t seed) { return make_history(seed, Partitions::kAlike).sql(); };
  for (std::uint64_t seed = 1; seed <= 100; ++seed) EXPECT_EQ(sql(seed), sql(seed)) << seed;
  EXPECT_NE(sql(1), sql(2));
}

}  // namespace
}  // namespace bitacora::equivalence
