#include "tests/wal/every_version.h"

#include <map>
#include <memory>
#include <stdexcept>

#include "tests/postgres/database.h"
#include "tests/postgres/pair.h"

namespace bitacora::wal {
namespace {

constexpr std::size_t kNameBytesMax = 63;  // NAMEDATALEN - 1

engine::ThrowawayCluster make_cluster(int version) {
  engine::ClusterOptions options;
  options.bin_dir = harness::available_servers().at(version);
  options.settings = {{"max_replication_slots", "4"}};
  auto cluster = engine::ThrowawayCluster::make("wal", options);
  if (!cluster.ok()) throw std::runtime_error(one_line(cluster.error()));
  return std::move(cluster).value();
}

}  // namespace

engine::ThrowawayCluster& EveryVersion::cluster() {
  static std::map<int, engine::ThrowawayCluster> clusters;
  const auto found = clusters.find(version());
  if (found != clusters.end()) return found->second;
  return clusters.emplace(version(), make_cluster(version())).first->second;
}

void EveryVersion::SetUp() {
  if (!harness::available_servers().contains(version())) {
    GTEST_SKIP() << harness::why_missing(version());
  }
  conninfo_ = harness::fresh_database(cluster(), harness::case_name().substr(0, kNameBytesMax));
  master_ = std::make_unique<MasterSession>(conninfo_);
}

void EveryVersion::TearDown() {
  if (conninfo_.empty()) return;
  sql("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active");
  const auto idle = [&] {
    return value("SELECT count(*) FROM pg_replication_slots WHERE active") == "0";
  };
  EXPECT_TRUE(harness::eventually(idle));
  sql("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots");
}

void EveryVersion::sql(const std::string& statements) const {
  harness::execute(conninfo_, statements);
}

std::string EveryVersion::value(const std::string& query) const {
  return harness::query_value(conninfo_, query);
}

}  // namespace bitacora::wal
