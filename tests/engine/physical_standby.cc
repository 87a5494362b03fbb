#include "tests/engine/physical_standby.h"

#include <filesystem>
#include <fstream>
#include <stdexcept>

#include <fmt/format.h>

#include "tests/postgres/process.h"

namespace bitacora::harness {
namespace {

namespace fs = std::filesystem;

void copy_as_it_is(const fs::path& from, const fs::path& to) {
  const auto copied = run({"cp", "-a", from, to});
  if (copied.exit_code != 0) throw std::runtime_error("cannot copy: " + copied.error_output);
}

}  // namespace

void make_standby(const engine::ThrowawayCluster& primary, const engine::ThrowawayCluster& standby,
                  Slots slots, const Settings& settings) {
  const auto data = standby.directory() / "data";
  const auto own_settings = standby.directory() / "postgresql.conf";
  copy_as_it_is(data / "postgresql.conf", own_settings);
  fs::remove_all(data);
  copy_as_it_is(primary.directory() / "data", data);
  if (slots == Slots::kLeftBehind) {
    for (const auto& slot : fs::directory_iterator(data / "pg_replslot")) fs::remove_all(slot);
  }
  fs::remove(data / "postgresql.auto.conf");
  std::ofstream lines(own_settings, std::ios::app);
  for (const auto& [name, value] : settings) lines << name << " = '" << value << "'\n";
  lines.close();
  copy_as_it_is(own_settings, data / "postgresql.conf");
  std::ofstream(data / "standby.signal").flush();
}

Settings follow(const engine::ThrowawayCluster& primary) {
  return {{"primary_conninfo", fmt::format("host=127.0.0.1 port={} user=postgres", primary.port())},
          {"primary_slot_name", "physical"},
          {"hot_standby_feedback", "on"},
          {"wal_receiver_status_interval", "1"},
          {"wal_retrieve_retry_interval", "200"}};
}

}  // namespace bitacora::harness
