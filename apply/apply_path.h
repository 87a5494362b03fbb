// Which path changes take to the standby's tables.
#pragma once

namespace bitacora::apply {

enum class ApplyPath {
  kAuto,   // by how many wait
  kExact,  // row by row, always
  kFast,   // set-wise also for a few rows: to measure and to test
};

}  // namespace bitacora::apply
