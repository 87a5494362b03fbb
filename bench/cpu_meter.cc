#include "bench/cpu_meter.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <pqxx/pqxx>
#include <sstream>
#include <utility>

namespace bitacora::bench {
namespace {

constexpr const char* kObserver = "bitacora_bench";

struct UsedSeconds {
  double itself = 0;
  double ended_children = 0;  // which it has waited for
};

UsedSeconds used_by(pid_t pid) {
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  std::string line;
  std::getline(file, line);
  const auto name_end = line.rfind(')');  // the name may hold anything
  if (name_end == std::string::npos) return {};
  std::istringstream fields(line.substr(name_end + 1));
  constexpr int kFieldsBefore =
      11;  // between the name and utime, stime, cutime, cstime; see proc(5)
  std::string skipped;
  for (int i = 0; i < kFieldsBefore; ++i) fields >> skipped;
  double user = 0, system = 0, children_user = 0, children_system = 0;
  fields >> user >> system >> children_user >> children_system;
  const auto ticks = static_cast<double>(sysconf(_SC_CLK_TCK));
  return {(user + system) / ticks, (children_user + children_system) / ticks};
}

}  // namespace

double cpu_seconds(pid_t pid) { return used_by(pid).itself; }

double cpu_seconds_of_family(pid_t pid) {
  const auto used = used_by(pid);
  double sum = used.itself + used.ended_children;
  std::ifstream children(fmt::format("/proc/{0}/task/{0}/children", pid));
  for (pid_t child = 0; children >> child;) sum += cpu_seconds_of_family(child);
  return sum;
}

FindPids find_backends(const std::string& conninfo, const std::string& database) {
  auto connection = std::make_shared<pqxx::connection>(as_observer(conninfo));
  const auto sql = fmt::format(
      "SELECT pid FROM pg_stat_activity WHERE datname LIKE '{}' AND application_name <> '{}' "
      "AND backend_type NOT LIKE 'autovacuum%'",
      database, kObserver);
  return [connection, sql] {
    std::vector<pid_t> pids;
    for (const auto& row : pqxx::nontransaction(*connection).exec(sql))
      pids.push_back(row[0].as<pid_t>());
    return pids;
  };
}

std::string as_observer(const std::string& conninfo) {
  return fmt::format("{} application_name={}", conninfo, kObserver);
}

void CpuMeter::watch(const std::string& role, FindPids find) {
  watched_.push_back({role, std::move(find)});
}

void CpuMeter::begin() {
  for (auto& watched : watched_) {
    for (const pid_t pid : watched.find()) watched.before[pid] = cpu_seconds(pid);
  }
}

void CpuMeter::sample() {
  for (auto& watched : watched_) {
    for (const pid_t pid : watched.find()) {
      auto& latest = watched.latest[pid];
      latest = std::max(latest, cpu_seconds(pid));
    }
  }
}

CpuSeconds CpuMeter::seconds() const {
  CpuSeconds sums;
  for (const auto& watched : watched_) {
    double& sum = sums[watched.role];
    for (const auto& [pid, latest] : watched.latest) {
      const auto before = watched.before.find(pid);
      sum += latest - (before == watched.before.end() ? 0 : before->second);
    }
  }
  return sums;
}

}  // namespace bitacora::bench
