// Physical standbys of a throwaway cluster.
#pragma once

#include <map>
#include <string>

#include "engine/throwaway_cluster.h"

namespace bitacora::harness {

using Settings = std::map<std::string, std::string>;

enum class Slots { kLeftBehind, kTaken };  // taken: as PostgreSQL 17 can keep them in step

// Both are stopped. `standby` keeps its port and directory, loses what it has, and gets what
// `primary` has now; it follows nobody unless the settings say so.
void make_standby(const engine::ThrowawayCluster& primary, const engine::ThrowawayCluster& standby,
                  Slots slots, const Settings& settings = {});

// The settings of one that follows `primary`, with feedback, by the slot `physical` there.
Settings follow(const engine::ThrowawayCluster& primary);

}  // namespace bitacora::harness
