// What pgoutput is asked for.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "wal/origin_policy.h"

namespace bitacora::wal {

using PluginOptions = std::vector<std::pair<std::string, std::string>>;

// The highest protocol that a server of this server_version_num offers.
std::uint32_t proto_version_for(int server_version);

// From 16 on the server itself leaves out what kNone does not ship, before it is decoded.
PluginOptions plugin_options(int server_version, const std::string& publication, bool binary,
                             OriginPolicy origins = OriginPolicy::kAuto);

}  // namespace bitacora::wal
