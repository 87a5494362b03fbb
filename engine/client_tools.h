// Which pg_dump and pg_restore can read a master: those of its own version or of a newer one.
#pragma once

#include <string>

#include "base/error.h"

namespace bitacora::engine {

struct ClientTools {
  std::string directory;
  int major_version = 0;
};

// In `bin_dir` when it is given; else on PATH, or the oldest that fits of those below
// /usr/lib/postgresql. kConfiguration: none fits; names the versions, and what mends it.
Result<ClientTools> find_client_tools(const std::string& bin_dir, int master_major_version);

}  // namespace bitacora::engine
