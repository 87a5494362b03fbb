#include "bench/quiet_cluster.h"

#include <stdexcept>
#include <utility>

#include "tests/postgres/servers.h"

namespace bitacora::bench {
namespace {

std::string bin_dir(const std::string& server) {
  if (server.empty() || server.find_first_not_of("0123456789") != std::string::npos) return server;
  const int version = std::stoi(server);
  const auto available = harness::available_servers();
  const auto found = available.find(version);
  if (found == available.end()) throw std::runtime_error(harness::why_missing(version));
  return found->second;
}

}  // namespace

engine::ThrowawayCluster quiet_cluster(const std::string& name, const std::string& server,
                                       const std::map<std::string, std::string>& settings) {
  std::map<std::string, std::string> quiet = {
      {"shared_buffers", "256MB"},
      {"max_wal_size", "16GB"},
      {"checkpoint_timeout", "1h"},
      {"autovacuum", "off"},
      // How long a subscription's worker waits before it is started again.
      {"wal_retrieve_retry_interval", "100ms"}};
  for (const auto& [setting, value] : settings) quiet[setting] = value;
  auto made = engine::ThrowawayCluster::make(name, {bin_dir(server), quiet, {}});
  if (!made.ok()) throw std::runtime_error(one_line(made.error()));
  return std::move(made).value();
}

}  // namespace bitacora::bench
