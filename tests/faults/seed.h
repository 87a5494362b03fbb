// Where the chance of a test of faults begins.
#pragma once

#include <cstdlib>
#include <iostream>
#include <random>

namespace bitacora::harness {

// BITACORA_SEED, or another one each time; printed, so that a run can be made again.
inline std::mt19937::result_type seed() {
  const char* text = std::getenv("BITACORA_SEED");
  const auto chosen = text != nullptr
                          ? static_cast<std::mt19937::result_type>(std::strtoul(text, nullptr, 10))
                          : std::random_device{}();
  std::cout << "seed " << chosen << "\n";
  return chosen;
}

}  // namespace bitacora::harness
