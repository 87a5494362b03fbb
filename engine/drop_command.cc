#include "engine/drop_command.h"

#include <iostream>

#include <fmt/format.h>

#include "engine/connect_hint.h"
#include "wal/conninfo.h"
#include "wal/master_session.h"
#include "wal/publication.h"
#include "wal/replication_slot.h"

namespace bitacora::engine {

Result<void> run_drop(const DropOptions& options) {
  const auto name = "bitacora_" + options.stream;
  wal::MasterSession session(options.master);
  const auto unused = session.try_lock_slot(name);
  if (!unused.ok()) return with_connect_hint(unused.error(), "--master");
  if (!*unused) {
    return Error{ErrorCode::kMaster, fmt::format("a sender serves slot {}", name),
                 "stop the sender of this stream first"};
  }
  ASSIGN_OR_RETURN(const bool slot, wal::drop_slot(session, name));
  std::cout << fmt::format("slot {}: {}\n", name, slot ? "dropped" : "was not there") << std::flush;
  const auto publication = wal::drop_publication(session, name);
  if (!publication.ok()) {
    Error error = publication.error();
    const auto standby = session.in_recovery();
    error.hint = fmt::format("run {}: DROP PUBLICATION {}",
                             standby.ok() && *standby ? "on the primary" : "as its owner", name);
    return error;
  }
  std::cout << fmt::format("publication {}: {}\n", name,
                           *publication ? "dropped" : "was not there");
  return {};
}

}  // namespace bitacora::engine
