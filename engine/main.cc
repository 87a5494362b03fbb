// bitacora: one binary, a command each for the sender, the receiver and the tools around them.
#include <cstdlib>
#include <iostream>
#include <string_view>

#include "base/log.h"
#include "engine/begin_anew.h"
#include "engine/control_command.h"
#include "engine/copy_preparation.h"
#include "engine/demo_command.h"
#include "engine/drop_command.h"
#include "engine/options.h"
#include "engine/publication_keeper.h"
#include "engine/receiver.h"
#include "engine/sender.h"
#include "engine/status_command.h"
#include "engine/stop_signal.h"
#include "wal/conninfo.h"

namespace bitacora::engine {
namespace {

// What libpq quotes of a text that it cannot read may be the password.
Error without_quotation(Error error) {
  const auto begin = error.message.find('"');
  const auto end = error.message.rfind('"');
  if (begin < end) error.message.replace(begin, end - begin + 1, "...");
  return error;
}

bool may_hold_a_password(const std::string& text) {
  return text.find("password") != std::string::npos || text.find('@') != std::string::npos;
}

// A conninfo that does not parse is found before anything starts, and its password never reaches a
// log.
Result<void> accept_conninfo(const std::string& text, const char* option) {
  const auto conninfo = wal::parse_conninfo(text, option);
  if (!conninfo.ok()) {
    return may_hold_a_password(text) ? without_quotation(conninfo.error()) : conninfo.error();
  }
  redact_in_logs(conninfo->password);
  return {};
}

void start_logging(const CommonOptions& common) {
  bitacora::start_logging(common.log_json ? LogFormat::kJson : LogFormat::kText, common.verbose);
}

struct Run {
  std::stop_token stop;
  ReloadRequests& reloads;

  Result<void> operator()(const SenderOptions& options) const {
    if (options.forget) return run_forget(options);
    start_logging(options.common);
    RETURN_IF_ERROR(accept_conninfo(options.master, "--master"));
    return options.plan ? run_plan(options, stop) : Sender(options).run(stop, reloads);
  }
  Result<void> operator()(const ReceiverOptions& options) const {
    start_logging(options.common);
    RETURN_IF_ERROR(accept_conninfo(options.standby, "--standby"));
    if (options.begin_anew) return run_begin_anew(options);
    return options.copy.dry_run ? print_schema(options, stop) : Receiver(options).run(stop);
  }
  Result<void> operator()(const StatusOptions& options) const { return run_status(options, stop); }
  Result<void> operator()(const ResyncOptions& options) const {
    if (!options.standby.empty()) RETURN_IF_ERROR(accept_conninfo(options.standby, "--standby"));
    return run_resync(options, stop);
  }
  Result<void> operator()(const SequencesOptions& options) const { return run_sequences(options); }
  Result<void> operator()(const DropOptions& options) const {
    RETURN_IF_ERROR(accept_conninfo(options.master, "--master"));
    return run_drop(options);
  }
  Result<void> operator()(const DemoOptions& /*options*/) const { return run_demo(stop); }
  Result<void> operator()(const ShowText& show) const {
    std::cout << show.text;
    return {};
  }
};

int run(int argc, const char* const* argv) {
  // gRPC reports to us, not to standard error; who looks for a fault in gRPC itself sets its own.
  ::setenv("GRPC_VERBOSITY", "NONE", 0);
  const bool serves = argc > 1 && std::string_view(argv[1]) == "sender";
  bitacora::start_logging(LogFormat::kText, false);
  StopSignal signals(serves ? HangUp::kReloads : HangUp::kEnds);
  const auto command = parse_command_line(argc, argv);
  const auto result = command.ok() ? std::visit(Run{signals.token(), signals.reloads()}, *command)
                                   : Result<void>(command.error());
  if (result.ok()) return 0;
  std::cerr << "bitacora: " << redacted(one_line(result.error())) << "\n";
  return exit_code(result.error());
}

}  // namespace
}  // namespace bitacora::engine

int main(int argc, char** argv) { return bitacora::engine::run(argc, argv); }
