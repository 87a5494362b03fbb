#include "engine/drop_command.h"

#include <iostream>

#include <fmt/format.h>

#include "wal/conninfo.h"
#include "wal/master_session.h"
#include "wal/publication.h"
#include "wal/replication_slot.h"

namespace bitacora::engine {

Result<void> run_drop(const DropOptions& options) {
  const auto name = "bitacora_" + options.stream;
  wal::MasterSession session(options.master);
  const auto slot = wal::drop_slot(session, name);
  if (!slot.ok()) {
    Error error = slot.error();
    error.hint = "stop the sender of this stream first";
    return error;
  }
  ASSIGN_OR_RETURN(const bool publication, wal::drop_publication(session, name));
  std::cout << fmt::format("slot {}: {}\npublication {}: {}\n", name, *slot ? "dropped" : "was not there", name,
                           publication ? "dropped" : "was not there");
  return {};
}

}  // namespace bitacora::engine
