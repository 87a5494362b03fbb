// What the command line and the configuration file say. Names and defaults are those of the README.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "apply/apply_path.h"
#include "apply/conflict_policy.h"
#include "apply/target_rules.h"
#include "base/error.h"
#include "base/name_pattern.h"
#include "engine/receiver_grants.h"
#include "transport/credentials.h"
#include "transport/spool.h"
#include "wal/origin_policy.h"
#include "wal/publication_rule.h"

namespace bitacora::engine {

struct CommonOptions {
  std::string http;
  bool log_json = false;
  bool verbose = false;
  bool strict = false;  // a pattern or a rule that matches no table is an error
};

struct SenderOptions {
  CommonOptions common;
  std::string master;  // conninfo
  std::string listen = "127.0.0.1:7432";
  std::string state_dir;
  std::string stream = "bitacora";
  std::vector<std::string> tables;
  std::vector<std::string> schemas;                     // shipped whole, with the tables to come
  std::vector<std::string> operations;                  // empty: as the publication has it, or all
  std::vector<wal::PublicationRule> publication_rules;  // of the file: columns and rows of tables
  bool publish_via_partition_root = false;
  wal::OriginPolicy origins = wal::OriginPolicy::kAuto;
  ReceiverGrants receivers;           // of the file
  bool plan = false;                  // print what would change in the publication, and end
  std::string pg_bin_dir;             // of pg_dump and pg_restore; empty: they are looked for
  std::uint64_t keep_bytes_max = 0;   // of WAL for a receiver that is away; 0: any amount
  std::optional<std::string> forget;  // a receiver: forget it and end
  transport::TlsFiles tls;

  std::string config;                  // the file; empty: none
  std::vector<std::string> arguments;  // of the command line, to be read again

  std::string slot() const { return "bitacora_" + stream; }
  std::string publication() const { return "bitacora_" + stream; }
};

// How tables come to the standby that are not followed from their beginning.
struct CopyOptions {
  bool none = false;           // both sides hold the same rows already
  bool create_schema = false;  // what the standby lacks, as pg_dump gives it
  bool dry_run = false;        // print that and end
  bool truncate = false;       // empty tables that hold rows
  unsigned sessions = 4;       // that copy at the same time, on the master and on the standby each
  std::uint64_t split_bytes = 256u << 20;  // a larger table is copied in parts
};

struct ReceiverOptions {
  CommonOptions common;
  std::string sender = "127.0.0.1:7432";
  std::string standby;  // conninfo
  std::string data_dir;
  std::string name;  // default: the host's
  std::string stream = "bitacora";
  std::vector<std::string> tables;
  apply::TargetRules targets;  // from the file's sections
  CopyOptions copy;
  bool begin_anew = false;                      // forget everything and end
  std::chrono::seconds sequences_interval{10};  // between two looks at the master's; 0: never
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

// Copies a table anew, or for the first time.
struct ResyncOptions {
  std::string http;     // of a receiver that runs
  std::string standby;  // or conninfo, for one that does not
  std::string name;     // of that one
  std::string table;    // schema.table
};

// Gives the standby's sequences the master's values.
struct SequencesOptions {
  std::string http;
  bool now = false;
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

using Command = std::variant<SenderOptions, ReceiverOptions, StatusOptions, ResyncOptions,
                             SequencesOptions, DropOptions, DemoOptions, ShowText>;

// Flags win over the configuration file. kUsage: an unknown command or option, a missing or
// malformed value. kConfiguration: the file cannot be read or has an unknown key; suggestions
// included.
Result<Command> parse_command_line(int argc, const char* const* argv);

}  // namespace bitacora::engine
