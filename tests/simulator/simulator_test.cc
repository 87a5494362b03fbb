// Random schedules of both sides' protocol with every fault we know of.
// BITACORA_SIMULATOR_SEEDS=n plays so many, BITACORA_SIMULATOR_SEED=n plays one again and tells
// what happens in it.
#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>
#include <optional>
#include <string>

#include "base/log.h"
#include "tests/simulator/simulation.h"

namespace bitacora::simulator {
namespace {

constexpr std::uint64_t kSeeds = 10'000;
constexpr int kFailuresTold = 10;

std::uint64_t playing = 0;

std::optional<std::uint64_t> number(const char* variable) {
  const char* text = std::getenv(variable);
  if (text == nullptr) return std::nullopt;
  return std::strtoull(text, nullptr, 10);
}

// A CHECK that fails ends the process: the seed is told before.
void tell_seed(int /*signal*/) {
  std::fprintf(stderr, "BITACORA_SIMULATOR_SEED=%llu\n", static_cast<unsigned long long>(playing));
}

std::optional<std::string> play(std::uint64_t seed, bool traced) {
  playing = seed;
  try {
    Simulation(seed, traced).run();
    return std::nullopt;
  } catch (const Violation& violation) {
    return violation.what();
  }
}

TEST(Simulator, EveryStandbyHasAPrefixOfTheMastersHistory) {
  spdlog::set_level(spdlog::level::off);
  std::signal(SIGABRT, tell_seed);  // a CHECK that fails
  const auto one = number("BITACORA_SIMULATOR_SEED");
  const auto first = one.value_or(1);
  const auto last = one.value_or(number("BITACORA_SIMULATOR_SEEDS").value_or(kSeeds));
  int failures = 0;
  for (auto seed = first; seed <= last && failures < kFailuresTold; ++seed) {
    const auto broken = play(seed, one.has_value());
    if (!broken) continue;
    ++failures;
    ADD_FAILURE() << "BITACORA_SIMULATOR_SEED=" << seed << ": " << *broken;
  }
}

// Found by longer runs than this one's, each a defect once.
TEST(Simulator, SeedsThatOnceFailed) {
  std::signal(SIGABRT, tell_seed);
  for (const std::uint64_t seed : {
           22379u,  // the spool took the end of a transaction, its beginning removed, for more
           86793u,  // a spool whose beginning could not be synced asked like one without a past
           51232u,  // a spool that could not be synced waited for the master's next change
           220u,    // a batch told what the transaction behind it describes
           47689u,  // what was passed over left the spool, and an idle position came behind it
           573u,    // who missed a stream's beginning was left to a reader that is not there
           7015u,   // a position that was not sent yet was lost in an older commit, come once more
       }) {
    const auto broken = play(seed, false);
    EXPECT_FALSE(broken) << "BITACORA_SIMULATOR_SEED=" << seed << ": " << broken.value_or("");
  }
}

}  // namespace
}  // namespace bitacora::simulator
