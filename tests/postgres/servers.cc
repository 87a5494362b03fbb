#include "tests/postgres/servers.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>
#include <stdexcept>
#include <string_view>
#include <system_error>

namespace bitacora::harness {
namespace fs = std::filesystem;

namespace {

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

bool supported(int version) {
  for (const int candidate : kSupportedVersions) {
    if (candidate == version) return true;
  }
  return false;
}

// Directories of `root` that begin with a supported version's number and hold a server in `bin`.
void find_servers(const fs::path& root, std::string_view bin, std::map<int, std::string>& found) {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(root, ignored)) {
    const int version = std::atoi(entry.path().filename().c_str());
    const auto bin_dir = entry.path() / bin;
    if (supported(version) && fs::exists(bin_dir / "postgres", ignored)) {
      found.try_emplace(version, bin_dir.string());
    }
  }
}

}  // namespace

fs::path servers_cache() {
  if (const auto chosen = environment("BITACORA_SERVERS"); !chosen.empty()) return chosen;
  if (geteuid() == 0) return "/var/cache/bitacora-servers";
  const auto cache = environment("XDG_CACHE_HOME");
  return fs::path(cache.empty() ? environment("HOME") + "/.cache" : cache) / "bitacora-servers";
}

std::map<int, std::string> available_servers() {
  std::map<int, std::string> found;
  find_servers("/usr/lib/postgresql", "bin", found);
  find_servers(servers_cache(), "native/bin", found);
  return found;
}

std::string why_missing(int version) {
  return fmt::format("no PostgreSQL {} here; tests/postgres/fetch_servers brings it", version);
}

engine::ThrowawayCluster& server_of(int version, const std::string& role,
                                    const std::map<std::string, std::string>& settings) {
  static std::map<std::string, engine::ThrowawayCluster> servers;
  const auto name = role + std::to_string(version);
  if (const auto found = servers.find(name); found != servers.end()) return found->second;
  engine::ClusterOptions options;
  options.bin_dir = available_servers().at(version);
  options.settings = settings;
  auto made = engine::ThrowawayCluster::make(name, options);
  if (!made.ok()) throw std::runtime_error(one_line(made.error()));
  return servers.emplace(name, std::move(made).value()).first->second;
}

}  // namespace bitacora::harness
