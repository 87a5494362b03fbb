#include "engine/option_flags.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <chrono>
#include <cstdint>
#include <map>

#include "apply/applier_options.h"

namespace bitacora::engine {
namespace {

void add_common(CLI::App& command, CommonOptions& common, std::string& config,
                const char* http_default) {
  common.http = http_default;
  command.add_option("--http", common.http, "HOST:PORT of the status page")->capture_default_str();
  command.add_option("--config", config, "TOML file with these options' names as keys");
  command.add_flag("--log-json", common.log_json, "log JSON lines instead of text");
  command.add_flag("--verbose", common.verbose, "log more");
  command.add_flag("--strict", common.strict,
                   "refuse to start with a pattern that matches no table, instead of a warning");
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

}  // namespace

std::string host_name() {
  std::array<char, 256> name{};
  ::gethostname(name.data(), name.size() - 1);
  return name.data();
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
  command
      ->add_option("--schemas", options.schemas,
                   "SCHEMA,...: shipped whole, with the tables to come (PostgreSQL 15)")
      ->delimiter(',');
  command
      ->add_option("--operations", options.operations,
                   "of insert, update, delete, truncate: what is shipped")
      ->delimiter(',')
      ->check(CLI::IsMember({"insert", "update", "delete", "truncate"}));
  command->add_flag("--plan", options.plan, "print what would change in the publication, and end");
  command->add_flag("--publish-via-partition-root", options.publish_via_partition_root,
                    "ship rows of partitions under their root's name");
  command
      ->add_option("--origin", options.origins,
                   "transactions to ship: auto (all but what a receiver applied here), none (what "
                   "was written here only) or any (all)")
      ->transform(CLI::CheckedTransformer(
          std::map<std::string, wal::OriginPolicy>{{"auto", wal::OriginPolicy::kAuto},
                                                   {"none", wal::OriginPolicy::kNone},
                                                   {"any", wal::OriginPolicy::kAny}}))
      ->default_str("auto");
  command->add_option("--pg-bin-dir", options.pg_bin_dir,
                      "where pg_dump and pg_restore are, for receivers with --create-schema");
  command
      ->add_option("--max-receiver-keep-size", options.keep_bytes_max,
                   "a receiver that is away, and for which the master keeps more WAL, is dropped: "
                   "it has to begin anew; 0: never")
      ->transform(CLI::AsSizeValue(false))
      ->capture_default_str();
  command->add_option("--forget", options.forget,
                      "RECEIVER: hold the slot for it no more, and end; asks the sender at --http, "
                      "or changes --state-dir when none runs");
  add_tls(*command, options.tls);
  add_common(*command, options.common, config, "127.0.0.1:7433");
  return command;
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
  command->add_flag("--begin-anew", options.begin_anew,
                    "of one that cannot go on: forget what was received and applied, and end; the "
                    "next start copies again");
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

}  // namespace bitacora::engine
