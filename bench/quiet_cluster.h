// Servers for measuring.
#pragma once

#include <map>
#include <string>

#include "engine/throwaway_cluster.h"

namespace bitacora::bench {

// `server`: a BIN_DIR, a major version as the tests find them, or empty for the newest of the
// system. Its own housekeeping does not fall into a measurement: no autovacuum, no checkpoint
// before somebody asks for one. `settings` are on top. Throws with the server's words.
engine::ThrowawayCluster quiet_cluster(const std::string& name, const std::string& server,
                                       const std::map<std::string, std::string>& settings = {});

}  // namespace bitacora::bench
