// What the command line and the configuration file say. Names and defaults are those of the README.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "apply/apply_path.h"
#include "apply/conflict_policy.h"
#include "base/error.h"
#include "base/name_pattern.h"
#include "transport/credentials.h"
#include "transport/spool.h"

namespace bitacora::engine {

struct CommonOptions {
  std::string http;
  bool log_json = false;
  bool verbose = false;
};

struct SenderOptions {
  CommonOptions common;
  std::string master;  // conninfo
  std::string listen = "127.0.0.1:7432";
  std::string state_dir;
  std::string stream = "bitacora";
  std::vector<std::string> tables;
  bool publish_via_partition_root = false;
  transport::TlsFiles tls;

  std::string slot() const { return "bitacora_" + stream; }
  std::string publication() const { return "bitacora_" + stream; }
};

struct ReceiverOptions {
  CommonOptions common;
  std::string sender = "127.0.0.1:7432";
  std::string standby;  // conninfo
  std::string data_dir;
  std::string name;  // default: the host's
  std::string stream = "bitacora";
  std::vector<std::string> tables;
  bool no_copy = false;
  transport::SpoolOptions spool;
  apply::ApplyPath apply_path = apply::ApplyPath::kAuto;
  unsigned workers = 1;                     // connections to the standby that apply
  std::vector<std::string> conflict_rules;  // as they were given
  apply::ConflictPolicies conflicts;        // what they say
  transport::TlsFiles tls;
};

struct StatusOptions {
  std::string http;
  bool json = false;
  bool watch = false;
};

struct DropOptions {
  std::string master;
  std::string stream = "bitacora";
};

struct DemoOptions {};

// --help or --version: print this and leave with 0.
struct ShowText {
  std::string text;
};

using Command =
    std::variant<SenderOptions, ReceiverOptions, StatusOptions, DropOptions, DemoOptions, ShowText>;

// Flags win over the configuration file. kUsage: an unknown command or option, a missing or
// malformed value. kConfiguration: the file cannot be read or has an unknown key; suggestions
// included.
Result<Command> parse_command_line(int argc, const char* const* argv);

}  // namespace bitacora::engine
