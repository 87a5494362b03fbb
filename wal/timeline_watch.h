// A standby goes over to another timeline under its readers' eyes, and its walsender does not tell:
// when it is promoted, and when its primary is another one. What is decoded from there on belongs
// to the new timeline, and must not be taken for the old one's.
#pragma once

#include <cstdint>

#include "base/error.h"
#include "wal/master_connection.h"
#include "wal/system_identity.h"

namespace bitacora::wal {

// A connection of its own beside the reader's. Same thread.
class TimelineWatch {
 public:
  // `system` is what the reader's connection, made before, leads to. A primary keeps its timeline
  // for as long as it runs: there is nothing to watch, and no connection. Errors: kMaster, with
  // kRetry when the conninfo leads to another server just now.
  static Result<TimelineWatch> begin(MasterConnector& connector, const SystemIdentity& system);

  TimelineWatch() = default;  // watches nothing

  // All that was read before this call is of the timeline in `system`. Otherwise, or when the
  // server does not answer, an error that heals: by reading anew what was not handed on.
  Result<void> check();

  // False after a check that failed.
  bool holds() const { return holds_; }

 private:
  MasterConnection connection_;
  std::uint32_t timeline_ = 0;
  bool holds_ = true;
};

}  // namespace bitacora::wal
