// The PostgreSQL versions a test can start: Debian's 15, and those that
// tests/postgres/fetch_servers has put into its cache.
#pragma once

#include <array>
#include <filesystem>
#include <map>
#include <string>

#include "engine/throwaway_cluster.h"

namespace bitacora::harness {

inline constexpr std::array kSupportedVersions{14, 15, 16, 17, 18};

// Where fetch_servers puts them; the script says the same in its own words.
std::filesystem::path servers_cache();

// Major version → directory of its initdb and postgres.
std::map<int, std::string> available_servers();

// A running server of that version, made at the first call with its role and settings, for all
// cases of a test binary, and removed at exit. Throws when it cannot be made.
engine::ThrowawayCluster& server_of(int version, const std::string& role,
                                    const std::map<std::string, std::string>& settings = {});

// For GTEST_SKIP: says which version is missing and what brings it.
std::string why_missing(int version);

}  // namespace bitacora::harness
