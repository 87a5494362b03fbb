// What every part of a simulation shares: its randomness, its trace, and how it ends early.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <cstdio>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>

#include "base/lsn.h"

// Positions are written as PostgreSQL does, and only when somebody reads it.
template <class Server>
struct fmt::formatter<bitacora::Position<Server>> : fmt::formatter<std::string> {
  template <class Context>
  auto format(bitacora::Position<Server> lsn, Context& context) const {
    return fmt::formatter<std::string>::format(to_string(lsn), context);
  }
};

namespace bitacora::simulator {

// A rule was broken: the simulation ends there.
class Violation : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class Chance {
 public:
  Chance(std::uint64_t seed, bool traced) : random_(seed), traced_(traced) {}

  std::uint64_t below(std::uint64_t n) { return random_() % n; }
  std::uint64_t between(std::uint64_t low, std::uint64_t high) {
    return low + below(high - low + 1);
  }
  bool one_in(std::uint64_t n) { return below(n) == 0; }
  std::mt19937_64& generator() { return random_; }

  template <class... Arguments>
  void note(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
    if (!traced_) return;
    fmt::print(stderr, "{:>5} {}\n", step,
               fmt::format(format, std::forward<Arguments>(arguments)...));
  }

  std::uint64_t step = 0;

 private:
  std::mt19937_64 random_;
  bool traced_;
};

// A fact about the code under test.
template <class... Arguments>
void require(bool fact, fmt::format_string<Arguments...> format, Arguments&&... arguments) {
  if (!fact) throw Violation(fmt::format(format, std::forward<Arguments>(arguments)...));
}

}  // namespace bitacora::simulator
