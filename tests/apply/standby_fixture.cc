#include "tests/apply/standby_fixture.h"

#include <map>
#include <stdexcept>
#include <utility>

#include <fmt/format.h>

#include "tests/postgres/pair.h"
#include "tests/postgres/servers.h"

namespace bitacora::apply {
namespace {

constexpr std::size_t kNameBytesMax = 63;  // NAMEDATALEN - 1

StandbySession session_of(const std::string& conninfo) {
  auto session = StandbySession::connect(conninfo, "standby test");
  if (!session.ok()) throw std::runtime_error(one_line(session.error()));
  return std::move(session).value();
}

}  // namespace

StandbyFixture::StandbyFixture() : StandbyFixture(harness::shared_standby()) {}

StandbyFixture::StandbyFixture(const engine::ThrowawayCluster& cluster)
    : conninfo_(harness::fresh_database(cluster, harness::case_name().substr(0, kNameBytesMax))),
      session_(session_of(conninfo_)) {}

StandbySession StandbyFixture::connect(const std::string& role) const {
  return session_of(conninfo_ + " user=" + role);
}

std::string StandbyFixture::copied_out(const std::string& sql) const {
  auto session = session_of(conninfo_);
  PGconn* connection = session.connection();
  ResultHandle result(PQexec(connection, sql.c_str()));
  if (PQresultStatus(result.get()) != PGRES_COPY_OUT)
    throw std::runtime_error(PQerrorMessage(connection));
  std::string bytes;
  char* piece = nullptr;
  for (int length = 0; (length = PQgetCopyData(connection, &piece, 0)) > 0; PQfreemem(piece))
    bytes.append(piece, static_cast<std::size_t>(length));
  return bytes;
}

std::string StandbyFixture::limited_role() {
  role_ = "limited_" + std::to_string(PQbackendPID(session_.connection()));
  execute(fmt::format(
      "CREATE ROLE {0} LOGIN; GRANT SET ON PARAMETER session_replication_role TO {0}", role_));
  return role_;
}

void StandbyFixture::TearDown() {
  if (!role_.empty()) execute(fmt::format("DROP OWNED BY {0}; DROP ROLE {0}", role_));
}

engine::ThrowawayCluster& cluster_of(int version) {
  static std::map<int, engine::ThrowawayCluster> clusters;
  const auto found = clusters.find(version);
  if (found != clusters.end()) return found->second;
  engine::ClusterOptions options;
  options.bin_dir = harness::available_servers().at(version);
  auto cluster = engine::ThrowawayCluster::make("standby", options);
  if (!cluster.ok()) throw std::runtime_error(one_line(cluster.error()));
  return clusters.emplace(version, std::move(cluster).value()).first->second;
}

}  // namespace bitacora::apply
