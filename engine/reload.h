// What SIGHUP does to a running sender: its file is read again, and the publication brought to it.
#pragma once

#include <functional>
#include <stop_token>
#include <string>
#include <vector>

#include "base/error.h"
#include "engine/options.h"
#include "engine/reload_requests.h"

namespace bitacora::engine {

// Whoever runs with the options takes new ones. From run_reloads()' thread.
struct ReloadSteps {
  // Before the publication is brought to them: nobody may have what only one of the two gives.
  std::function<void(const SenderOptions& running, const SenderOptions& fresh)> narrow;
  // Afterwards; not when that failed.
  std::function<void(const SenderOptions& fresh, bool publication_changed)> take;
};

// Until `stop`: for each request reads the options again as they were given (what was a flag stays
// as it was), changes the publication and takes the steps. What goes wrong is logged, and nothing
// has changed but for the first step. Whatever needs a restart stays as it is, and is named in a
// warning.
void run_reloads(ReloadRequests& requests, SenderOptions options, const ReloadSteps& steps,
                 const std::stop_token& stop);

// Names of options that differ and need a restart.
std::vector<std::string> need_restart(const SenderOptions& running, const SenderOptions& fresh);

}  // namespace bitacora::engine
