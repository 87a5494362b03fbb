#include "engine/reload.h"

#include <variant>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/log.h"
#include "engine/publication_keeper.h"
#include "wal/master_session.h"

namespace bitacora::engine {
namespace {

Result<SenderOptions> read_again(const SenderOptions& running) {
  std::vector<const char*> arguments;
  for (const auto& argument : running.arguments) arguments.push_back(argument.c_str());
  ASSIGN_OR_RETURN(auto command,
                   parse_command_line(static_cast<int>(arguments.size()), arguments.data()));
  auto* fresh = std::get_if<SenderOptions>(&command);
  CHECK(fresh != nullptr);
  return std::move(*fresh);
}

// As they were, but for what can change while the sender runs.
SenderOptions with_fresh(SenderOptions running, const SenderOptions& fresh) {
  SenderOptions options = fresh;
  options.master = running.master;
  options.listen = running.listen;
  options.state_dir = running.state_dir;
  options.stream = running.stream;
  options.pg_bin_dir = running.pg_bin_dir;
  options.origins = running.origins;
  options.keep_bytes_max = running.keep_bytes_max;
  options.tls = running.tls;
  const bool strict = fresh.common.strict;
  options.common = running.common;
  options.common.strict = strict;
  return options;
}

Result<void> reload(SenderOptions& running, const ReloadSteps& steps, const std::stop_token& stop) {
  ASSIGN_OR_RETURN(const auto fresh, read_again(running));
  if (const auto names = need_restart(running, fresh); !names.empty())
    spdlog::warn(
        "event=restart_needed options=\"{}\" meaning=\"they stay as they were until the "
        "sender is started again\"",
        fmt::join(names, ", "));
  auto options = with_fresh(running, fresh);
  steps.narrow(running, options);
  wal::MasterSession session(options.master);
  ASSIGN_OR_RETURN(const auto plan, keep_publication(session, options, stop));
  running = std::move(options);
  steps.take(running, !plan.changes_nothing());
  spdlog::info("event=reloaded config={}", running.config);
  return {};
}

}  // namespace

std::vector<std::string> need_restart(const SenderOptions& running, const SenderOptions& fresh) {
  std::vector<std::string> names;
  const auto compare = [&](const char* name, const auto& before, const auto& after) {
    if (before != after) names.emplace_back(name);
  };
  compare("master", running.master, fresh.master);
  compare("listen", running.listen, fresh.listen);
  compare("state-dir", running.state_dir, fresh.state_dir);
  compare("stream", running.stream, fresh.stream);
  compare("pg-bin-dir", running.pg_bin_dir, fresh.pg_bin_dir);
  compare("origin", running.origins, fresh.origins);
  compare("max-receiver-keep-size", running.keep_bytes_max, fresh.keep_bytes_max);
  compare("tls-cert", running.tls.certificate, fresh.tls.certificate);
  compare("tls-key", running.tls.key, fresh.tls.key);
  compare("tls-ca", running.tls.authority, fresh.tls.authority);
  compare("http", running.common.http, fresh.common.http);
  compare("log-json", running.common.log_json, fresh.common.log_json);
  compare("verbose", running.common.verbose, fresh.common.verbose);
  return names;
}

void run_reloads(ReloadRequests& requests, SenderOptions options, const ReloadSteps& steps,
                 const std::stop_token& stop) {
  while (requests.wait(stop)) {
    if (options.config.empty()) {
      spdlog::info("event=reload_ignored reason=\"there is no --config to read again\"");
      continue;
    }
    const auto done = reload(options, steps, stop);
    if (!done.ok() && !stop.stop_requested())
      spdlog::error(
          "event=reload_failed reason=\"{}\" action=\"going on as before; receivers "
          "may have what the file gave them before and gives them now\"",
          one_line(done.error()));
  }
}

}  // namespace bitacora::engine
