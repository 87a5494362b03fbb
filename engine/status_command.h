// bitacora status: the status page of a sender or receiver, for people or as JSON.
#pragma once

#include <stop_token>

#include "base/error.h"
#include "engine/options.h"

namespace bitacora::engine {

// kNetwork when nothing answers there.
Result<void> run_status(const StatusOptions& options, std::stop_token stop);

// The page as aligned lines: "applied_lsn   0/16B3748". For the demo, too.
std::string render_status(const std::string& document);

// One GET of the page.
Result<std::string> fetch_status(const std::string& address);

}  // namespace bitacora::engine
