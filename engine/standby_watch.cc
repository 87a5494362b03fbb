#include "engine/standby_watch.h"

#include <utility>

#include "base/blocking_session.h"
#include "base/interruptible_sleep.h"
#include "base/log.h"

namespace bitacora::engine {
namespace {

constexpr std::chrono::seconds kInterval{3};  // what stood still that long is looked at

// All of a receiver's sessions have one application_name, and another database may have a receiver
// of the same name. Workers wait for each other, too; a moment is no wait.
constexpr const char* kCondition =
    "l.pid IN (SELECT own.pid FROM pg_catalog.pg_stat_activity own"
    " WHERE own.datname = pg_catalog.current_database()"
    " AND own.application_name = pg_catalog.current_setting('application_name'))"
    " AND l.waitstart < pg_catalog.clock_timestamp() - interval '1 second'"
    " AND a.application_name IS DISTINCT FROM pg_catalog.current_setting('application_name')";

}  // namespace

StandbyWatch::StandbyWatch(const ReceiverOptions& options, ReceiverStatus& status)
    : options_(options),
      status_(status),
      thread_([this](const std::stop_token& stop) { run(stop); }) {}

void StandbyWatch::run(const std::stop_token& stop) {
  std::optional<MasterLsn> before;
  while (interruptible_sleep(kInterval, stop)) {
    const auto at = status_.behind_at();
    const bool stands_still = at && at == before;
    before = at;
    if (!stands_still) {
      session_.reset();
      tell({});
      continue;
    }
    auto blocker = find();
    if (!blocker.ok()) session_.reset();  // why is told by those who apply
    tell(blocker.ok() ? *blocker : std::string());
  }
}

Result<std::string> StandbyWatch::find() {
  if (!session_) {
    ASSIGN_OR_RETURN(auto session,
                     apply::StandbySession::connect(options_.standby, "bitacora_" + options_.name));
    session_.emplace(std::move(session));
  }
  ASSIGN_OR_RETURN(const auto rows,
                   session_->query("cannot ask who holds a lock", blocking_query(kCondition)));
  if (rows.empty()) return std::string();
  BlockingSession found;
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (const auto& field = rows[0].at(i)) found[i] = *field;
  }
  return describe(found);
}

void StandbyWatch::tell(const std::string& blocker) {
  status_.on_waiting(redacted(blocker));
  const bool told = std::exchange(told_, !blocker.empty());
  if (told == told_) return;
  if (told_) {
    spdlog::warn("event=standby_waits reason=\"{}\" action=\"waiting until it is gone\"",
                 redacted(blocker));
  } else {
    spdlog::info("event=standby_goes_on");
  }
}

}  // namespace bitacora::engine
