// Names of ours on a PostgreSQL server that both sides know: what a receiver writes there, a sender
// of the same server has to recognise.
#pragma once

#include <string_view>

namespace bitacora::proto {

inline constexpr std::string_view kOwnSchema = "bitacora";      // the receivers' tables
inline constexpr std::string_view kOriginPrefix = "bitacora_";  // of their replication origins

}  // namespace bitacora::proto
