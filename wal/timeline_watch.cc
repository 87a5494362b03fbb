#include "wal/timeline_watch.h"

#include <utility>

#include <fmt/format.h>

namespace bitacora::wal {

Result<TimelineWatch> TimelineWatch::begin(MasterConnector& connector,
                                           const SystemIdentity& system) {
  TimelineWatch watch;
  if (!system.server.in_recovery) return watch;
  ASSIGN_OR_RETURN(watch.connection_, connector.connect());
  ASSIGN_OR_RETURN(const auto server, identify_server(watch.connection_.get()));
  if (server.started != system.server.started) {
    return Error{ErrorCode::kMaster, "two connections by --master lead to two servers",
                 "name one server in --master, or wait until the others are down",
                 Recovery::kRetry};
  }
  watch.timeline_ = system.history.timeline;
  return watch;
}

Result<void> TimelineWatch::check() {
  if (!connection_) return {};
  const auto current = current_timeline(connection_.get());
  holds_ = current.ok() && *current == timeline_;
  if (holds_) return {};
  return Error{ErrorCode::kMaster,
               current.ok() ? fmt::format("the standby went over from timeline {} to {}", timeline_,
                                          *current)
                            : current.error().message,
               {},
               Recovery::kRetry};
}

}  // namespace bitacora::wal
