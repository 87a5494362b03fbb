// How often this program asked for memory: operator new is counted where bench/allocations.cc is
// linked in.
#pragma once

#include <cstdint>

namespace bitacora::bench {

struct Allocations {
  std::uint64_t count = 0;
  std::uint64_t bytes = 0;
};

Allocations allocations();  // so far, by all threads

}  // namespace bitacora::bench
