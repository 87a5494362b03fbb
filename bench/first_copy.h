// The first copy of a database to an empty standby, one turn at a time.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "bench/cpu_meter.h"
#include "bench/databases.h"
#include "bench/workload.h"

namespace bitacora::bench {

enum class CopyWay {
  kOurs,              // with --create-schema
  kOursIntoTables,    // tables and indexes are there beforehand
  kBuiltin,           // the same
  kDump,              // pg_dump of two jobs, then pg_restore of as many
  kDumpUncompressed,  // the same with -Z0
};

// Whether it is one of a pg_dump.
bool needs_pg_dump(CopyWay way);

struct CopyTurn {
  double seconds = 0;
  // "reading": sender or pg_dump, "writing": receiver or pg_restore, "master", "standby": the whole
  // servers.
  CpuSeconds cpu = {};
  std::optional<double> read_seconds = {};  // of these, pg_dump's
  std::uint64_t sender_peak_bytes = 0;
  std::uint64_t receiver_peak_bytes = 0;
};

class FirstCopy {
 public:
  // Fills the master's database. `content` outlives this. `sessions`: the receiver's
  // --copy-sessions; 0: its own default.
  FirstCopy(const Servers& servers, const Workload& content, unsigned sessions);
  FirstCopy(const FirstCopy&) = delete;
  FirstCopy& operator=(const FirstCopy&) = delete;
  ~FirstCopy();

  // Until every row and index is there. Throws when the standby's differ from the master's: then
  // nothing was measured. Leaves nothing on the standby.
  CopyTurn turn(CopyWay way) const;

  std::string size() const;  // of the master's tables with their indexes, for people

 private:
  CopyTurn ours(const std::string& standby, std::vector<std::string> options) const;
  CopyTurn builtin(const std::string& standby) const;
  CopyTurn dump(const std::string& standby, const std::vector<std::string>& options) const;
  void compare(const std::string& standby) const;
  std::string master() const { return servers_.master.conninfo(content_.name); }

  Servers servers_;
  const Workload& content_;
  const unsigned sessions_;
};

// Where the programs of this server are, when its pg_dump is among them.
std::optional<std::string> pg_dump_directory(const engine::ThrowawayCluster& server);

}  // namespace bitacora::bench
