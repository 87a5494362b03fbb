// Amounts as people read them.
#pragma once

#include <cstdint>
#include <string>

namespace bitacora::engine {

// "812 B", "1.5 MB", as pg_size_pretty counts: 1 kB is 1024 bytes.
std::string human_bytes(double bytes);

// "4.2 s", "3 min 20 s", "2 h 5 min".
std::string human_seconds(double seconds);

// 12,345,678
std::string human_count(std::uint64_t count);

}  // namespace bitacora::engine
