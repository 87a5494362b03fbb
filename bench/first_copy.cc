#include "bench/first_copy.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <pqxx/pqxx>
#include <stdexcept>
#include <utility>
#include <vector>

#include "bench/builtin_subscription.h"
#include "bench/pair.h"
#include "bench/patience.h"
#include "tests/postgres/database.h"
#include "tests/postgres/process.h"

namespace bitacora::bench {
namespace {

using Clock = std::chrono::steady_clock;
using CpuClocks = std::map<std::string, std::function<double()>>;

constexpr std::chrono::minutes kPatience{60};
constexpr std::chrono::milliseconds kLookInterval{20};  // at the standby: who looks costs it, too
constexpr std::chrono::milliseconds kProcessInterval{250};
constexpr const char* kJobs = "--jobs=2";

double in_seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
}

// Of children of this process that have ended, with theirs.
double cpu_seconds_of_ended() {
  rusage usage{};
  getrusage(RUSAGE_CHILDREN, &usage);
  return in_seconds(usage.ru_utime) + in_seconds(usage.ru_stime);
}

double cpu_seconds_of(const engine::ThrowawayCluster& server) {
  std::ifstream file(server.directory() / "data" / "postmaster.pid");
  pid_t postmaster = 0;
  if (!(file >> postmaster)) throw std::runtime_error("a server's postmaster.pid cannot be read");
  return cpu_seconds_of_family(postmaster);
}

CpuSeconds read(const CpuClocks& clocks) {
  CpuSeconds seconds;
  for (const auto& [role, clock] : clocks) seconds[role] = clock();
  return seconds;
}

CopyTurn timed(CpuClocks clocks, const Servers& servers, const std::function<void()>& copy) {
  clocks["master"] = [&] { return cpu_seconds_of(servers.master); };
  clocks["standby"] = [&] { return cpu_seconds_of(servers.standby); };
  CopyTurn turn;
  const auto before = read(clocks);
  const auto begin = Clock::now();
  copy();
  turn.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  turn.cpu = read(clocks);
  for (auto& [role, seconds] : turn.cpu) seconds -= before.at(role);
  return turn;
}

// The progress row stands at 0/0 until the copy is over; before there is none, and no table.
void await_copied(const std::string& standby, const std::function<void()>& look_at_processes) {
  pqxx::connection connection(standby);
  const auto is_true = [&](const char* sql) {
    const auto rows = pqxx::nontransaction(connection).exec(sql);
    return !rows.empty() && rows[0][0].as<bool>();
  };
  await(
      "the end of the receiver's copy",
      [&] {
        look_at_processes();
        return is_true("SELECT to_regclass('bitacora.progress') IS NOT NULL") &&
               is_true("SELECT applied_lsn <> '0/0' FROM bitacora.progress");
      },
      kPatience, kLookInterval);
}

}  // namespace

bool needs_pg_dump(CopyWay way) {
  return way == CopyWay::kOurs || way == CopyWay::kDump || way == CopyWay::kDumpUncompressed;
}

FirstCopy::FirstCopy(const Servers& servers, const Workload& content, unsigned sessions)
    : servers_(servers), content_(content), sessions_(sessions) {
  const auto database = harness::fresh_database(servers.master, content.name);
  set_up(content, database);
  run_round(content, database, 0, servers.master.directory());
  harness::execute(database, fmt::format("CREATE PUBLICATION {} FOR ALL TABLES", content.name));
  harness::execute(database, "VACUUM ANALYZE");
}

FirstCopy::~FirstCopy() {
  try {
    drop_slots(servers_.master, content_.name);
    for (const auto* server : {&servers_.master, &servers_.standby}) {
      harness::execute(server->conninfo(),
                       fmt::format("DROP DATABASE IF EXISTS {} WITH (FORCE)", content_.name));
    }
  } catch (const std::exception&) {  // a server is gone
  }
}

CopyTurn FirstCopy::turn(CopyWay way) const {
  const auto standby = harness::fresh_database(servers_.standby, content_.name);
  const bool into_tables = way == CopyWay::kOursIntoTables || way == CopyWay::kBuiltin;
  if (into_tables) set_up(content_, standby);
  for (const auto* server : {&servers_.master, &servers_.standby})
    harness::execute(server->conninfo(), "CHECKPOINT");
  switch (way) {
    case CopyWay::kOurs:
      return ours(standby, {"--create-schema"});
    case CopyWay::kOursIntoTables:
      return ours(standby, {});
    case CopyWay::kBuiltin:
      return builtin(standby);
    case CopyWay::kDump:
      return dump(standby, {});
    case CopyWay::kDumpUncompressed:
      return dump(standby, {"--compress=0"});
  }
  throw std::logic_error("no such way");
}

// The sender runs before, as the master does: the command that is timed is the receiver's.
CopyTurn FirstCopy::ours(const std::string& standby, std::vector<std::string> options) const {
  if (sessions_ > 0) options.push_back(fmt::format("--copy-sessions={}", sessions_));
  const WorkingDirectory directory(servers_.master.directory().string() + "-" + content_.name);
  CopyTurn turn;
  {
    Sender sender(master(), content_.name, directory.path() / "sender");
    std::optional<Receiver> receiver;
    turn =
        timed({{"reading", [&] { return cpu_seconds_of_family(sender.pid()); }},
               {"writing", [&] { return receiver ? cpu_seconds(receiver->pid()) : 0; }}},
              servers_, [&] {
                receiver.emplace(sender, ReceiverIdentity{content_.name, standby,
                                                          directory.path() / "receiver", options});
                await_copied(standby, seldom(
                                          [&] {
                                            sender.throw_if_ended();
                                            receiver->throw_if_ended();
                                          },
                                          kProcessInterval));
              });
    turn.sender_peak_bytes = harness::peak_resident_bytes(sender.pid());
    turn.receiver_peak_bytes = harness::peak_resident_bytes(receiver->pid());
    receiver->stop();
  }
  drop_slots(servers_.master, content_.name);
  compare(standby);
  return turn;
}

CopyTurn FirstCopy::builtin(const std::string& standby) const {
  std::optional<BuiltinSubscription> subscription;
  auto turn = timed({}, servers_, [&] {
    subscription.emplace(master(), standby, content_.name, WithCopy{});
    subscription->await_copied(kPatience);
  });
  compare(standby);
  return turn;
}

CopyTurn FirstCopy::dump(const std::string& standby,
                         const std::vector<std::string>& options) const {
  const WorkingDirectory directory(servers_.master.directory().string() + "-dump");
  const auto file = (directory.path() / "dump").string();
  const auto programs = pg_dump_directory(servers_.master);
  if (!programs) throw std::runtime_error("no pg_dump of the server's version");
  std::vector<std::string> dumping{
      *programs + "/pg_dump", "--dbname=" + master(), kJobs,
      "--format=directory",   "--no-publications",    "--file=" + file};
  dumping.insert(dumping.end(), options.begin(), options.end());
  double read_seconds = 0;
  double reading = 0;
  const double before = cpu_seconds_of_ended();
  auto turn = timed({}, servers_, [&] {
    const auto begin = Clock::now();
    run_to_end(std::move(dumping));
    read_seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    reading = cpu_seconds_of_ended() - before;
    run_to_end({*programs + "/pg_restore", "--exit-on-error", "--dbname=" + standby, kJobs, file});
  });
  turn.cpu["reading"] = reading;
  turn.cpu["writing"] = cpu_seconds_of_ended() - before - reading;
  turn.read_seconds = read_seconds;
  compare(standby);
  return turn;
}

void FirstCopy::compare(const std::string& standby) const {
  compare_content(content_, master(), standby);
  const auto* const indexes =
      "SELECT count(*) FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid "
      "WHERE relnamespace = 'public'::regnamespace AND indisvalid";
  if (harness::query_value(master(), indexes) != harness::query_value(standby, indexes))
    throw std::runtime_error("no figures, indexes are missing at " + standby);
}

std::string FirstCopy::size() const {
  return harness::query_value(master(),
                              "SELECT pg_size_pretty(sum(pg_total_relation_size(oid))) FROM "
                              "pg_class WHERE relnamespace = 'public'::regnamespace AND "
                              "relkind = 'r'");
}

std::optional<std::string> pg_dump_directory(const engine::ThrowawayCluster& server) {
  auto directory = harness::query_value(server.conninfo(),
                                        "SELECT setting FROM pg_config WHERE name = 'BINDIR'");
  for (const auto* program : {"pg_dump", "pg_restore"}) {
    if (!std::filesystem::exists(std::filesystem::path(directory) / program)) return std::nullopt;
  }
  return directory;
}

}  // namespace bitacora::bench
