#include "engine/options.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <functional>

#include <fmt/format.h>

#include "apply/applier_options.h"
#include "engine/config_file.h"
#include "engine/conflict_rule.h"
#include "engine/table_name.h"

namespace bitacora::engine {
namespace {

constexpr const char* kVersion = "bitacora 0.1.0";
constexpr std::size_t kStreamNameMax =
    54;  // with "bitacora_" before it still a replication slot's name

constexpr std::uint64_t kSplitBytesMin = 1u << 20;

std::string host_name() {
  std::array<char, 256> name{};
  ::gethostname(name.data(), name.size() - 1);
  return name.data();
}

void add_common(CLI::App& command, CommonOptions& common, std::string& config,
                const char* http_default) {
  common.http = http_default;
  command.add_option("--http", common.http, "HOST:PORT of the status page")->capture_default_str();
  command.add_option("--config", config, "TOML file with these options' names as keys");
  command.add_flag("--log-json", common.log_json, "log JSON lines instead of text");
  command.add_flag("--verbose", common.verbose, "log more");
}

void add_tls(CLI::App& command, transport::TlsFiles& tls) {
  command.add_option("--tls-cert", tls.certificate, "PEM file: our certificate");
  command.add_option("--tls-key", tls.key, "PEM file: its key");
  command.add_option("--tls-ca", tls.authority,
                     "PEM file: the authority of the other side's certificate");
}

void add_tables(CLI::App& command, std::vector<std::string>& tables) {
  command
      .add_option("--tables", tables,
                  "PATTERN,...: schema.table with * and ?, a leading ! excludes")
      ->delimiter(',');
}

CLI::App* add_sender(CLI::App& app, SenderOptions& options, std::string& config) {
  CLI::App* command = app.add_subcommand("sender", "stream a master's changes to receivers");
  command->add_option("--master", options.master, "conninfo of the master's database");
  command->add_option("--listen", options.listen, "HOST:PORT for receivers")->capture_default_str();
  command->add_option("--state-dir", options.state_dir,
                      "directory that remembers slot and receivers");
  command
      ->add_option("--stream", options.stream,
                   "name of the stream; slot and publication are bitacora_NAME")
      ->capture_default_str();
  add_tables(*command, options.tables);
  command->add_flag("--publish-via-partition-root", options.publish_via_partition_root,
                    "ship rows of partitions under their root's name");
  command->add_option("--pg-bin-dir", options.pg_bin_dir,
                      "where pg_dump and pg_restore are, for receivers with --create-schema");
  add_tls(*command, options.tls);
  add_common(*command, options.common, config, "127.0.0.1:7433");
  return command;
}

void add_spool(CLI::App& command, transport::SpoolOptions& options) {
  const CLI::AsSizeValue size(false);
  command
      .add_option("--spool-max-size", options.bytes_max,
                  "most that the spool takes; full, it holds the sender back")
      ->transform(size)
      ->default_str("64GB");
  command
      .add_option("--spool-disk-reserve", options.disk_reserve_bytes,
                  "space that the spool leaves free on its file system")
      ->transform(size)
      ->default_str("512MB");
  command
      .add_option_function<std::uint64_t>(
          "--spool-keep-time",
          [&options](std::uint64_t seconds) { options.keep_time = std::chrono::seconds(seconds); },
          "how long applied changes are kept for a standby restored from a backup")
      ->transform(CLI::AsNumberWithUnit(
          std::map<std::string, std::uint64_t>{{"s", 1}, {"min", 60}, {"h", 3600}, {"d", 86400}}))
      ->default_str("1h");
  command.add_option("--spool-keep-size", options.keep_bytes, "and at most so much of them")
      ->transform(size)
      ->default_str("1GB");
  command.add_flag("!--no-spool-sync", options.sync,
                   "do not fsync the spool: for measuring only, a crash of the host may then need "
                   "the tables made equal again");
}

void add_copy(CLI::App& command, ReceiverOptions& options) {
  CopyOptions& copy = options.copy;
  command.add_flag("--no-copy", copy.none,
                   "begin without an initial copy: both sides hold the same rows already");
  command.add_flag("--create-schema", copy.create_schema,
                   "make the tables that the standby lacks, with what they need");
  command.add_flag("--dry-run", copy.dry_run,
                   "with --create-schema: print what would be made, and end");
  command.add_flag("--truncate", copy.truncate,
                   "empty tables of the standby that hold rows, before the first copy");
  command
      .add_option("--copy-sessions", copy.sessions,
                  "connections that copy at the same time, to the master and to the standby")
      ->check(CLI::Range(1, apply::kWorkersMax))
      ->capture_default_str();
  command
      .add_option("--split-tables-larger-than", copy.split_bytes,
                  "such a table is copied in parts, at the same time")
      ->transform(CLI::AsSizeValue(false))
      ->default_str("256MB");
  command
      .add_option_function<std::uint64_t>(
          "--sequences-interval",
          [&options](std::uint64_t seconds) {
            options.sequences_interval = std::chrono::seconds(seconds);
          },
          "time between two looks at the master's sequences; 0: never")
      ->transform(CLI::AsNumberWithUnit(
          std::map<std::string, std::uint64_t>{{"s", 1}, {"min", 60}, {"h", 3600}, {"d", 86400}}))
      ->default_str("10s");
}

CLI::App* add_receiver(CLI::App& app, ReceiverOptions& options, std::string& config) {
  CLI::App* command = app.add_subcommand("receiver", "apply a sender's changes to a standby");
  command->add_option("--sender", options.sender, "HOST:PORT of the sender")->capture_default_str();
  command->add_option("--standby", options.standby, "conninfo of the standby's database");
  command->add_option("--data-dir", options.data_dir, "directory for the receiver's state");
  options.name = host_name();
  command->add_option("--name", options.name, "this receiver's name")->capture_default_str();
  command->add_option("--stream", options.stream, "name of the sender's stream")
      ->capture_default_str();
  add_tables(*command, options.tables);
  add_copy(*command, options);
  command
      ->add_option("--apply-path", options.apply_path,
                   "how changes are written: auto, exact (row by row) or fast (set-wise also for a "
                   "few rows)")
      ->transform(CLI::CheckedTransformer(
          std::map<std::string, apply::ApplyPath>{{"auto", apply::ApplyPath::kAuto},
                                                  {"exact", apply::ApplyPath::kExact},
                                                  {"fast", apply::ApplyPath::kFast}}))
      ->default_str("auto");
  command
      ->add_option("--conflict", options.conflict_rules,
                   "PATTERN=POLICY for rows that are not as the change expects: error, keep, "
                   "overwrite or skip; may be repeated, the last one that matches decides")
      ->take_all();
  command
      ->add_option("--workers", options.workers,
                   "connections that apply at the same time; commits keep the master's order")
      ->check(CLI::Range(1, apply::kWorkersMax))
      ->capture_default_str();
  add_spool(*command, options.spool);
  add_tls(*command, options.tls);
  add_common(*command, options.common, config, "127.0.0.1:7434");
  return command;
}

Result<void> require(const std::string& value, const char* option, const char* example) {
  if (!value.empty()) return {};
  return Error{ErrorCode::kUsage, fmt::format("{} is missing", option),
               fmt::format("for example: {} {}", option, example)};
}

Result<void> check_stream(const std::string& stream) {
  const bool fits =
      stream.size() <= kStreamNameMax && !stream.empty() &&
      stream.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_") == std::string::npos;
  if (fits) return {};
  return Error{
      ErrorCode::kUsage, fmt::format("--stream \"{}\" cannot name a replication slot", stream),
      fmt::format("use up to {} lower-case letters, digits and underscores", kStreamNameMax)};
}

Result<void> check_address(const std::string& address, const char* option) {
  const auto colon = address.rfind(':');
  const bool has_port = colon != std::string::npos && colon > 0 && colon + 1 < address.size() &&
                        address.find_first_not_of("0123456789", colon + 1) == std::string::npos;
  const int port =
      has_port && address.size() - colon <= 6 ? std::stoi(address.substr(colon + 1)) : 0;
  if (port > 0 && port <= 65535) return {};
  return Error{ErrorCode::kUsage, fmt::format("{} {} is not HOST:PORT", option, address),
               fmt::format("for example: {} 127.0.0.1:7432", option)};
}

Result<void> check(const SenderOptions& options) {
  RETURN_IF_ERROR(require(options.master, "--master", "\"host=db1 dbname=shop user=bitacora\""));
  RETURN_IF_ERROR(require(options.state_dir, "--state-dir", "/var/lib/bitacora/sender"));
  RETURN_IF_ERROR(check_stream(options.stream));
  RETURN_IF_ERROR(check_address(options.listen, "--listen"));
  RETURN_IF_ERROR(check_address(options.common.http, "--http"));
  const auto tables = TablePatterns::parse(options.tables);
  return tables.ok() ? Result<void>{} : tables.error();
}

Result<void> check(const CopyOptions& copy) {
  if (copy.none && (copy.create_schema || copy.truncate)) {
    return Error{ErrorCode::kUsage,
                 fmt::format("--no-copy goes with no {}",
                             copy.create_schema ? "--create-schema" : "--truncate"),
                 "leave one of the two out"};
  }
  if (copy.dry_run && !copy.create_schema) {
    return Error{ErrorCode::kUsage, "--dry-run shows what --create-schema would make",
                 "give both, or leave it out"};
  }
  if (copy.split_bytes < kSplitBytesMin) {
    return Error{ErrorCode::kUsage, "--split-tables-larger-than is too small", "give at least 1MB"};
  }
  return {};
}

Result<void> check(ReceiverOptions& options) {
  RETURN_IF_ERROR(require(options.standby, "--standby", "\"host=db2 dbname=shop user=bitacora\""));
  RETURN_IF_ERROR(require(options.data_dir, "--data-dir", "/var/lib/bitacora/receiver"));
  RETURN_IF_ERROR(require(options.name, "--name", "reporting"));
  RETURN_IF_ERROR(check_stream(options.stream));
  RETURN_IF_ERROR(check_address(options.sender, "--sender"));
  RETURN_IF_ERROR(check_address(options.common.http, "--http"));
  RETURN_IF_ERROR(check(options.copy));
  ASSIGN_OR_RETURN(options.conflicts, parse_conflict_rules(options.conflict_rules));
  const auto tables = TablePatterns::parse(options.tables);
  return tables.ok() ? Result<void>{} : tables.error();
}

Result<void> check(const ResyncOptions& options) {
  if (options.http.empty() == options.standby.empty()) {
    return Error{ErrorCode::kUsage, "which receiver?",
                 "give --http of one that runs, or --standby (and --name) of one that does not"};
  }
  if (!options.http.empty()) RETURN_IF_ERROR(check_address(options.http, "--http"));
  const auto table = parse_table_name(options.table);
  return table.ok() ? Result<void>{} : table.error();
}

Result<void> check(const SequencesOptions& options) {
  RETURN_IF_ERROR(require(options.http, "--http", "127.0.0.1:7434"));
  RETURN_IF_ERROR(check_address(options.http, "--http"));
  if (options.now) return {};
  return Error{ErrorCode::kUsage, "a receiver looks at sequences every --sequences-interval anyway",
               "to have it do so at once: bitacora sequences --now --http HOST:PORT"};
}

// Everything CLI11 fills in, and the subcommands in the order they are shown.
struct Parser {
  CLI::App app{
      "Bitácora: ships what PostgreSQL's logical decoding reads to standbys, compressed, exactly "
      "once"};
  SenderOptions sender;
  ReceiverOptions receiver;
  StatusOptions status;
  ResyncOptions resync;
  SequencesOptions sequences;
  DropOptions drop;
  DemoOptions demo;
  std::string config;
  CLI::App* sender_command = add_sender(app, sender, config);
  CLI::App* receiver_command = add_receiver(app, receiver, config);
  CLI::App* status_command =
      app.add_subcommand("status", "show what a sender or receiver is doing");
  CLI::App* resync_command = app.add_subcommand("resync", "copy a table anew, while others go on");
  CLI::App* sequences_command =
      app.add_subcommand("sequences", "give the standby's sequences the master's values");
  CLI::App* drop_command =
      app.add_subcommand("drop", "remove a stream's slot and publication from the master");
  CLI::App* demo_command =
      app.add_subcommand("demo", "two throwaway clusters and a pair: rows arrive");

  Parser() {
    app.set_version_flag("--version", kVersion);
    app.require_subcommand(1);
    status_command->add_option("--http", status.http, "HOST:PORT of its status page");
    status_command->add_flag("--json", status.json, "print the JSON as it comes");
    status_command->add_flag("--watch", status.watch, "again every second, until interrupted");
    resync_command->add_option("--http", resync.http, "HOST:PORT of the receiver's status page");
    resync_command->add_option("--standby", resync.standby,
                               "conninfo of the standby's database, of a receiver that is stopped: "
                               "it copies the table when it is started");
    resync.name = host_name();
    resync_command->add_option("--name", resync.name, "with --standby: the receiver's name")
        ->capture_default_str();
    resync_command->add_option("TABLE", resync.table, "schema.table, as on the master");
    sequences_command->add_option("--http", sequences.http,
                                  "HOST:PORT of the receiver's status page");
    sequences_command->add_flag("--now", sequences.now, "and not only in a while");
    drop_command->add_option("--master", drop.master, "conninfo of the master's database");
    drop_command->add_option("--stream", drop.stream, "name of the stream")->capture_default_str();
  }

  CLI::App& chosen() { return *app.get_subcommands().front(); }
};

// CLI11's message, with the option that was probably meant.
Error usage_error(const Parser& parser, const CLI::ParseError& e, int argc,
                  const char* const* argv) {
  Error error{ErrorCode::kUsage, e.what(), "bitacora --help lists commands and options"};
  std::vector<std::string> known;
  const auto add = [&](const CLI::App& command) {
    for (const auto* option : command.get_options()) {
      for (const auto& name : option->get_lnames()) known.push_back("--" + name);
    }
  };
  const auto commands = parser.app.get_subcommands(nullptr);
  for (const auto* command : commands) {
    if (argc > 1 && command->get_name() == argv[1]) add(*command);
    if (argc > 1 && argv[1][0] != '-') known.push_back(command->get_name());
  }
  for (int i = 1; i < argc; ++i) {
    const std::string word = std::string(argv[i]).substr(0, std::string(argv[i]).find('='));
    const bool ours = std::find(known.begin(), known.end(), word) != known.end();
    const bool candidate = word.starts_with("--") || i == 1;
    if (!candidate || ours || word == "--help") continue;
    const auto meant = nearest(word, known);
    error.message =
        fmt::format("unknown {} {}", word.starts_with("--") ? "option" : "command", word);
    if (!meant.empty()) error.hint = fmt::format("did you mean {}?", meant);
    break;
  }
  return error;
}

Result<Command> checked(Parser& parser) {
  if (!parser.config.empty()) RETURN_IF_ERROR(apply_config_file(parser.chosen(), parser.config));
  if (parser.sender_command->parsed()) {
    RETURN_IF_ERROR(check(parser.sender));
    return Command(parser.sender);
  }
  if (parser.receiver_command->parsed()) {
    RETURN_IF_ERROR(check(parser.receiver));
    return Command(parser.receiver);
  }
  if (parser.status_command->parsed()) {
    RETURN_IF_ERROR(require(parser.status.http, "--http",
                            "127.0.0.1:7433 (a sender) or 127.0.0.1:7434 (a receiver)"));
    RETURN_IF_ERROR(check_address(parser.status.http, "--http"));
    return Command(parser.status);
  }
  if (parser.resync_command->parsed()) {
    RETURN_IF_ERROR(check(parser.resync));
    return Command(parser.resync);
  }
  if (parser.sequences_command->parsed()) {
    RETURN_IF_ERROR(check(parser.sequences));
    return Command(parser.sequences);
  }
  if (parser.drop_command->parsed()) {
    RETURN_IF_ERROR(
        require(parser.drop.master, "--master", "\"host=db1 dbname=shop user=bitacora\""));
    RETURN_IF_ERROR(check_stream(parser.drop.stream));
    return Command(parser.drop);
  }
  return Command(parser.demo);
}

}  // namespace

Result<Command> parse_command_line(int argc, const char* const* argv) {
  Parser parser;
  try {
    parser.app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    const auto chosen = parser.app.get_subcommands();
    return Command(ShowText{chosen.empty() ? parser.app.help() : chosen.front()->help("bitacora")});
  } catch (const CLI::CallForVersion&) {
    return Command(ShowText{std::string(kVersion) + "\n"});
  } catch (const CLI::ParseError& e) {
    return usage_error(parser, e, argc, argv);
  }
  return checked(parser);
}

}  // namespace bitacora::engine
