// One log line per state change, to standard error: "time level event=NAME key=value ...".
#pragma once

#include <string>
#include <string_view>

#include <spdlog/spdlog.h>  // IWYU pragma: export

namespace bitacora {

enum class LogFormat { kText, kJson };

// Sets the process's logger, before any thread starts. Called again it changes how that one writes,
// whoever is writing.
void start_logging(LogFormat format, bool verbose);

// From now on every occurrence of `secret` in a log line is printed as ***. Thread-safe.
void redact_in_logs(std::string_view secret);

// `text` with every known secret replaced: for what is shown elsewhere than in the log.
std::string redacted(std::string_view text);

}  // namespace bitacora
