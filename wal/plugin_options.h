// What pgoutput is asked for.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace bitacora::wal {

using PluginOptions = std::vector<std::pair<std::string, std::string>>;

// The highest protocol that a server of this server_version_num offers.
std::uint32_t proto_version_for(int server_version);

PluginOptions plugin_options(int server_version, const std::string& publication, bool binary);

}  // namespace bitacora::wal
