#include "engine/publication_keeper.h"

#include <iostream>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/log.h"
#include "engine/connect_hint.h"
#include "proto/relation.h"

namespace bitacora::engine {
namespace {

void warn_of(const wal::PublicationPlan& plan) {
  for (const auto& pattern : plan.unmatched)
    spdlog::warn(
        "event=pattern_matches_nothing pattern=\"{}\" hint=\"compare with: SELECT schemaname, "
        "tablename FROM pg_tables\"",
        pattern);
  if (plan.not_compared.empty()) return;
  spdlog::warn(
      "event=filter_not_compared tables=\"{}\" meaning=\"on a standby nobody can tell whether the "
      "publication's filter is the one of the configuration file\" hint=\"on the primary: SELECT "
      "tablename, rowfilter FROM pg_publication_tables\"",
      fmt::join(plan.not_compared, ", "));
}

void log_change(const wal::PublicationPlan& plan, const std::string& publication) {
  if (plan.changes_nothing()) return;
  if (plan.creates) {
    spdlog::info("event=publication_created publication={}", publication);
    return;
  }
  spdlog::warn(
      "event=publication_changed publication={} added=\"{}\" dropped=\"{}\" changed=\"{}\"",
      publication, fmt::join(plan.added, ", "), fmt::join(plan.dropped, ", "),
      fmt::join(plan.changed, ", "));
  for (const auto& [table, why] : plan.to_resync)
    spdlog::info(
        "event=resync_needed table=\"{}\" reason=\"{}\" hint=\"at each receiver: bitacora "
        "resync {}\"",
        table, why, table);
}

Result<void> warn_of_tables(wal::MasterSession& session, const std::string& publication) {
  ASSIGN_OR_RETURN(const auto tables, wal::tables_without_identity(session, publication));
  if (!tables.empty())
    spdlog::warn(
        "event=no_replica_identity tables=\"{}\" meaning=\"the master refuses UPDATE and DELETE on "
        "them\" hint=\"add a primary key or: ALTER TABLE ... REPLICA IDENTITY FULL\"",
        fmt::join(tables, ", "));
  ASSIGN_OR_RETURN(const auto partial, wal::tables_with_partial_inserts(session, publication));
  if (!partial.empty())
    spdlog::warn(
        "event=filter_without_full_identity tables=\"{}\" meaning=\"a row that an UPDATE of its "
        "key brings through the filter comes without the large values that it left as they were, "
        "and stops the receiver\" hint=\"ALTER TABLE ... REPLICA IDENTITY FULL\"",
        fmt::join(partial, ", "));
  return {};
}

std::string one_a_line(const std::vector<std::string>& lines, const char* end) {
  std::string text;
  for (const auto& line : lines) text += fmt::format("  {}{}\n", line, end);
  return text;
}

}  // namespace

TablePatterns shipped_patterns(const SenderOptions& options) {
  auto texts = options.tables;
  for (const auto& schema : options.schemas) texts.push_back(proto::quoted_name(schema) + ".*");
  if (options.tables.empty() && !options.schemas.empty()) {
    for (const auto& rule : options.publication_rules) texts.push_back(rule.pattern);
  }
  const auto patterns = TablePatterns::parse(texts);
  CHECK(patterns.ok());  // the options were checked when they were read
  return *patterns;
}

wal::PublicationOptions publication_options(const SenderOptions& options) {
  return {options.tables,     options.publish_via_partition_root, options.schemas,
          options.operations, options.publication_rules,          options.common.strict};
}

Result<wal::PublicationPlan> keep_publication(wal::MasterSession& session,
                                              const SenderOptions& options,
                                              const std::stop_token& stop) {
  const auto name = options.publication();
  ASSIGN_OR_RETURN(auto plan,
                   wal::ensure_publication(session, name, publication_options(options), {}, stop));
  warn_of(plan);
  log_change(plan, name);
  // Once it has changed, whoever runs with it has to know.
  const auto warned = warn_of_tables(session, name);
  return warned.ok() || !plan.changes_nothing() ? Result(std::move(plan)) : warned.error();
}

std::string describe(const wal::PublicationPlan& plan, const std::string& publication) {
  std::string text;
  for (const auto& pattern : plan.unmatched) text += fmt::format("nothing matches {}\n", pattern);
  if (plan.changes_nothing())
    return text + fmt::format("publication {}: no changes\n", publication);
  text += fmt::format("publication {}{}:\n{}", publication,
                      plan.creates ? ", which does not exist yet" : "", one_a_line(plan.lines, ""));
  auto statements = plan.lock;
  statements.insert(statements.end(), plan.statements.begin(), plan.statements.end());
  if (statements.size() > 1) {
    statements.insert(statements.begin(), "BEGIN");
    statements.emplace_back("COMMIT");
  }
  text += "statements:\n" + one_a_line(statements, ";");
  if (plan.to_resync.empty()) return text;
  text += "then, at each receiver, for the rows that it lacks:\n";
  for (const auto& [table, why] : plan.to_resync)
    text += fmt::format("  bitacora resync {}  # {}\n", table, why);
  return text;
}

Result<void> run_plan(const SenderOptions& options, const std::stop_token& stop) {
  wal::MasterSession session(options.master);
  const auto facts = session.facts();
  if (!facts.ok()) return with_connect_hint(facts.error(), "--master");
  ASSIGN_OR_RETURN(const auto plan, wal::plan_publication(session, options.publication(),
                                                          publication_options(options), {}, stop));
  std::cout << describe(plan, options.publication()) << std::flush;
  return {};
}

}  // namespace bitacora::engine
