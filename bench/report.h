// Figures for people, for scripts and as a picture.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bench/race.h"

namespace bitacora::bench {

// One workload: medians of its rounds.
std::string table(const Figures& figures);

// All of them, with every round's values.
nlohmann::ordered_json as_json(const std::vector<Figures>& all);

// How many times as fast as the built-in subscription, as bars.
std::string as_svg(const std::vector<Figures>& all, const std::string& conditions);

}  // namespace bitacora::bench
