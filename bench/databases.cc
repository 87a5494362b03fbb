#include "bench/databases.h"

#include <fmt/format.h>

#include <exception>
#include <pqxx/pqxx>

#include "bench/cpu_meter.h"
#include "bench/patience.h"
#include "tests/postgres/database.h"

namespace bitacora::bench {

// A killed sender's slot is left, and its walsender for a moment.
void drop_slots(const engine::ThrowawayCluster& master, const std::string& database) {
  const auto of_ours = fmt::format("FROM pg_replication_slots WHERE database = '{}'", database);
  const auto conninfo = master.conninfo();
  harness::eventually([&] {
    return harness::query_value(conninfo, "SELECT count(*) " + of_ours + " AND active") == "0";
  });
  harness::execute(conninfo, "SELECT pg_drop_replication_slot(slot_name) " + of_ours);
}

Databases::Databases(const Servers& servers, const Workload& workload,
                     std::vector<std::string> suffixes)
    : servers_(servers), workload_(workload), suffixes_(std::move(suffixes)) {
  make(servers_.master, workload.name);
  for (const auto& suffix : suffixes_) make(servers_.standby, workload.name + suffix);
}

Databases::~Databases() {
  try {
    drop_slots(servers_.master, name());
    for (const auto& [cluster, name] : made_)
      harness::execute(cluster->conninfo(), fmt::format("DROP DATABASE {} WITH (FORCE)", name));
  } catch (const std::exception&) {  // a server is gone
  }
}

void Databases::make(const engine::ThrowawayCluster& cluster, const std::string& name) {
  harness::execute(cluster.conninfo(), "CREATE DATABASE " + name);
  made_.emplace_back(&cluster, name);
  harness::execute(cluster.conninfo(name), "CREATE TABLE mark (round integer PRIMARY KEY)");
  set_up(workload_, cluster.conninfo(name));
}

void Databases::settle() const {
  for (const auto& [cluster, name] : made_)
    harness::execute(cluster->conninfo(name), "VACUUM ANALYZE");
  for (const auto* cluster : {&servers_.master, &servers_.standby})
    harness::execute(cluster->conninfo(), "CHECKPOINT");
}

void Databases::compare() const {
  for (const auto& suffix : suffixes_) compare_content(workload_, master(), standby(suffix));
}

MasterLsn Databases::mark() {
  harness::execute(master(), fmt::format("INSERT INTO mark VALUES ({})", ++marks_));
  return {parse_lsn(harness::query_value(master(), "SELECT pg_current_wal_lsn()")).value()};
}

void Databases::await_mark(const std::string& suffix,
                           const std::function<void()>& look_at_processes,
                           std::chrono::milliseconds timeout) const {
  pqxx::connection connection(as_observer(standby(suffix)));
  const auto look = fmt::format("SELECT FROM mark WHERE round = {}", marks_);
  await(
      fmt::format("the end of {}{}", name(), suffix),
      [&] {
        look_at_processes();
        return !pqxx::nontransaction(connection).exec(look).empty();
      },
      timeout);
}

}  // namespace bitacora::bench
