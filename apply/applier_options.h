// How changes are applied, whatever number of connections does it.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "apply/apply_path.h"
#include "apply/careful_path.h"
#include "apply/conflict_policy.h"
#include "apply/fast_path.h"
#include "base/lsn.h"

namespace bitacora::apply {

inline constexpr int kWorkersMax = 64;  // each is a backend of the standby

// With several connections a group is cut earlier, so that there is one for each of them. It is
// collected in memory before it is written.
struct ParallelOptions {
  std::uint64_t rows_max = 50'000;
  std::size_t bytes_max = 8u << 20;
  // A transaction that comes to more is written while it arrives, and by itself.
  std::uint64_t collected_rows_max = 200'000;
  std::size_t collected_bytes_max = 16u << 20;
};

struct ApplierOptions {
  std::string subscription;
  std::string conninfo;  // for the error path: it renders a row on a connection of its own
  std::uint64_t group_rows_max =
      100'000;  // one standby transaction; larger only for one larger source transaction
  std::chrono::milliseconds group_time_max{1000};  // and so long at most
  std::uint64_t one_trip_rows_max =
      64;  // so small a batch is sent with its COMMIT, guarded row by row
  ApplyPath path = ApplyPath::kAuto;
  FastPathOptions fast = {};
  ParallelOptions parallel = {};
  std::function<void()> on_group_end = [] {};  // with several connections, from any thread
  // The exact path only, and one group after the other: for transactions whose commit record begins
  // no later. The exact path for these tables (schema.table) until then.
  MasterLsn exact_through = {};
  std::map<std::string, std::chrono::steady_clock::time_point> exact_tables = {};
  // Transactions whose commit record begins here or later are passed over; the progress row does
  // not go past it.
  MasterLsn until = {};
  ConflictPolicies conflicts = {};  // bitacora.conflicts is there if they resolve any
  // The careful path, and one group after the other: for these tables (schema.table).
  std::map<std::string, CarefulUntil> careful_tables = {};
};

}  // namespace bitacora::apply
