#include "engine/control_command.h"

#include <httplib.h>

#include <iostream>
#include <nlohmann/json.hpp>

#include <fmt/format.h>

#include "apply/copied_tables.h"
#include "apply/progress.h"
#include "apply/standby_session.h"
#include "base/interruptible_sleep.h"
#include "engine/connect_hint.h"
#include "engine/receiver_registry.h"
#include "engine/sender_state.h"
#include "engine/status_server.h"
#include "engine/table_name.h"
#include "proto/relation.h"

namespace bitacora::engine {
namespace {

constexpr int kPatienceSeconds = 600;  // for a snapshot: the master's open transactions have to end
constexpr std::chrono::milliseconds kLookInterval{200};

Error refusal(const std::string& body) {
  const auto document = nlohmann::json::parse(body, nullptr, false);
  if (!document.is_object()) return {ErrorCode::kInternal, body};
  return {static_cast<ErrorCode>(document.value("code", exit_code({}))),
          document.value("message", ""), document.value("hint", "")};
}

Result<std::string> ask(const std::string& address, const std::string& command,
                        const std::string& argument) {
  httplib::Client client("http://" + address);
  client.set_connection_timeout(4);
  client.set_read_timeout(kPatienceSeconds);
  const auto response =
      client.Post("/" + command, {{kControlHeader, "1"}}, httplib::Params{{"argument", argument}});
  if (response && response->status == 200) return response->body;
  if (response && response->status == 409) return refusal(response->body);
  return Error{ErrorCode::kNetwork,
               fmt::format("nothing answers at http://{}/{}", address, command),
               "check that it runs and what its --http says"};
}

// Of a receiver that is not there: it will find the table missing.
Result<void> note_resync(const ResyncOptions& options) {
  ASSIGN_OR_RETURN(const auto table, parse_table_name(options.table));
  auto standby = apply::StandbySession::connect(options.standby, "bitacora resync");
  if (!standby.ok()) return with_connect_hint(standby.error(), "--standby");
  ASSIGN_OR_RETURN(const bool locked, standby->try_lock(options.name));
  if (!locked) {
    return Error{ErrorCode::kState, fmt::format("receiver {} is running", options.name),
                 "ask it: bitacora resync --http HOST:PORT TABLE"};
  }
  ASSIGN_OR_RETURN(const auto row, apply::load_progress(*standby, options.name));
  if (!row || !row->applied_lsn.valid()) {
    return Error{ErrorCode::kState,
                 fmt::format("no receiver {} has applied anything to this standby", options.name),
                 "SELECT subscription FROM bitacora.progress lists them: give --name"};
  }
  ASSIGN_OR_RETURN(const auto there,
                   standby->query("cannot look for the table", "SELECT to_regclass($1)",
                                  {proto::sql_identifier(table.schema()) + "." +
                                   proto::sql_identifier(table.name())}));
  if (!there[0][0]) {
    return Error{ErrorCode::kStandby, fmt::format("the standby has no table {}", options.table),
                 "create it as on the master first"};
  }
  RETURN_IF_ERROR(apply::ensure_copied_tables(*standby));
  apply::CopiedTable copied;
  copied.schema = table.schema();
  copied.name = table.name();
  copied.hold_lsn = row->applied_lsn;
  RETURN_IF_ERROR(apply::add_copied_tables(*standby, options.name, {copied}));
  RETURN_IF_ERROR(apply::make_progress_durable(*standby, options.name));
  std::cout << options.table << " will be copied when receiver " << options.name << " is started\n";
  return {};
}

// Empty when it is one that runs that is to be asked.
Result<std::optional<SenderStateFile>> state_of_stopped(const SenderOptions& options) {
  if (options.state_dir.empty()) return std::optional<SenderStateFile>();
  return SenderStateFile::open_unless_in_use(options.state_dir);
}

}  // namespace

Result<void> run_resync(const ResyncOptions& options, const std::stop_token& stop) {
  if (options.http.empty()) return note_resync(options);
  ASSIGN_OR_RETURN(const auto begun, ask(options.http, "resync", options.table));
  std::cout << begun << std::endl;
  while (interruptible_sleep(kLookInterval, stop)) {
    ASSIGN_OR_RETURN(const auto state, ask(options.http, "resync_state", options.table));
    if (state != "follows") continue;
    std::cout << options.table << " follows the master again\n";
    return {};
  }
  return {};
}

Result<void> run_sequences(const SequencesOptions& options) {
  ASSIGN_OR_RETURN(const auto done, ask(options.http, "sequences", ""));
  std::cout << done << "\n";
  return {};
}

Result<void> run_forget(const SenderOptions& options) {
  ASSIGN_OR_RETURN(auto stopped, state_of_stopped(options));
  if (!stopped) {
    ASSIGN_OR_RETURN(const auto done, ask(options.common.http, "forget", *options.forget));
    std::cout << done << "\n";
    return {};
  }
  SenderState state = *stopped->state();
  RETURN_IF_ERROR(forget_in(state, *options.forget));
  RETURN_IF_ERROR(stopped->save(state));
  std::cout << fmt::format("receiver {} is forgotten; {}, once the sender is started\n",
                           *options.forget, held_from(state.receivers));
  return {};
}

}  // namespace bitacora::engine
