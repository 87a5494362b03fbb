// The standby's table bitacora.conflicts, and the receiver's log lines about them.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>

#include "apply/conflict.h"
#include "apply/guarded_exchange.h"
#include "apply/standby_session.h"
#include "base/error.h"

namespace bitacora::apply {

// Makes the table where it is missing, and sees that the role may write it.
Result<void> ensure_conflict_table(StandbySession& standby);

// One thread owns it.
class ConflictLog {
 public:
  ConflictLog(GuardedExchange& guarded, std::string subscription)
      : guarded_(guarded), subscription_(std::move(subscription)) {}

  // Inside of a guarded section: the row becomes visible with the change it tells of.
  Result<void> write(const Conflict& conflict);
  // One log line per table and second at most; the others are counted in the next.
  void tell(const Conflict& conflict);

 private:
  struct Told {
    std::chrono::steady_clock::time_point at = {};
    std::uint64_t untold = 0;
  };

  GuardedExchange& guarded_;
  const std::string subscription_;
  std::map<std::string, Told> told_;  // by schema.table
};

}  // namespace bitacora::apply
