// What first copies are measured on: `setup` makes the tables with their indexes, the only round
// fills them.
#pragma once

#include <cstdint>

#include "bench/workload.h"

namespace bitacora::bench {

Workload large_table(std::int64_t rows);
Workload small_tables(int tables);  // of a thousand rows each

}  // namespace bitacora::bench
