// CHECK is for our own bugs; what the world does wrong is an Error. One fact per check.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace bitacora::internal {

[[noreturn]] inline void check_failed(const char* fact, const char* file, int line) {
  std::fprintf(stderr, "%s:%d: CHECK failed: %s\n", file, line, fact);
  std::abort();
}

}  // namespace bitacora::internal

#define CHECK(fact) \
  ((fact) ? static_cast<void>(0) : ::bitacora::internal::check_failed(#fact, __FILE__, __LINE__))
