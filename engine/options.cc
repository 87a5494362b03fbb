#include "engine/options.h"

#include <CLI/CLI.hpp>
#include <algorithm>

#include <fmt/format.h>

#include "engine/config_file.h"
#include "engine/config_section.h"
#include "engine/conflict_rule.h"
#include "engine/option_flags.h"
#include "engine/publication_sections.h"
#include "engine/receiver_name.h"
#include "engine/table_name.h"
#include "engine/target_sections.h"

namespace bitacora::engine {
namespace {

constexpr const char* kVersion = "bitacora 0.1.0";
constexpr std::size_t kStreamNameMax =
    54;  // with "bitacora_" before it still a replication slot's name

constexpr std::uint64_t kSplitBytesMin = 1u << 20;

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
  if (options.forget) {
    RETURN_IF_ERROR(require(*options.forget, "the receiver of --forget", "reporting"));
    return check_address(options.common.http, "--http");
  }
  RETURN_IF_ERROR(require(options.master, "--master", "\"host=db1 dbname=shop user=bitacora\""));
  if (!options.plan)
    RETURN_IF_ERROR(require(options.state_dir, "--state-dir", "/var/lib/bitacora/sender"));
  RETURN_IF_ERROR(check_stream(options.stream));
  RETURN_IF_ERROR(check_address(options.listen, "--listen"));
  RETURN_IF_ERROR(check_address(options.common.http, "--http"));
  for (const auto& schema : options.schemas) {
    if (schema.empty() || schema.find_first_of("*?!") != std::string::npos)
      return Error{ErrorCode::kUsage,
                   fmt::format("--schemas \"{}\" is not a schema's name", schema),
                   "patterns go in --tables, for example --tables 'shop_*.*'"};
  }
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
  RETURN_IF_ERROR(check_receiver_name(options.name));
  RETURN_IF_ERROR(check_stream(options.stream));
  if (options.begin_anew && options.copy.none) {
    return Error{ErrorCode::kUsage, "--no-copy goes with no --begin-anew",
                 "its tables miss what was written meanwhile: leave --no-copy out, also of the "
                 "next start, which has to copy them"};
  }
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

  // What the file may hold beside options.
  ReadSections sections() {
    if (receiver_command->parsed()) return target_sections(receiver.targets);
    if (!sender_command->parsed()) return {};
    return {{"table",
             [this](const ConfigSection& section) -> Result<void> {
               ASSIGN_OR_RETURN(sender.publication_rules, read_publication_sections(section));
               return {};
             }},
            {"receivers",
             [this](const ConfigSection& section) { return sender.receivers.read(section); }}};
  }
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
  if (!parser.config.empty())
    RETURN_IF_ERROR(apply_config_file(parser.chosen(), parser.config, parser.sections()));
  if (parser.sender_command->parsed()) {
    RETURN_IF_ERROR(check(parser.sender));
    parser.sender.config = parser.config;
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
  parser.sender.arguments.assign(argv, argv + argc);
  return checked(parser);
}

}  // namespace bitacora::engine
