// Named places at which a test can end the process: wherever state changes hands. Nothing but a
// test's own binary (tests/faults/arm.cc) sets the hook; otherwise a point is one load and a branch
// that is never taken.
#pragma once

namespace bitacora {

using FaultHook = void (*)(const char* point);
inline FaultHook fault_hook = nullptr;  // set before main(), never changed

inline void fault_point(const char* point) {
  if (fault_hook != nullptr) [[unlikely]]
    fault_hook(point);
}

}  // namespace bitacora
