#include "engine/copy_preparation.h"

#include <iostream>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "apply/schema_steps.h"
#include "base/log.h"
#include "base/name_pattern.h"
#include "engine/connect_hint.h"
#include "proto/relation.h"
#include "transport/copy_client.h"

namespace bitacora::engine {
namespace {

using apply::StandbySession;

Result<std::vector<pb::TableName>> existing_tables(StandbySession& standby) {
  ASSIGN_OR_RETURN(
      const auto rows,
      standby.query(
          "cannot list the standby's tables",
          "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c JOIN "
          "pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE "
          "c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND n.nspname "
          "NOT IN ('information_schema', 'bitacora') AND n.nspname !~ '^pg_' ORDER BY 1, 2"));
  std::vector<pb::TableName> tables;
  for (const auto& row : rows) {
    auto& table = tables.emplace_back();
    table.set_schema(*row[0]);
    table.set_name(*row[1]);
  }
  return tables;
}

std::string as_sql(const pb::TableName& table) {
  return proto::sql_identifier(table.schema()) + "." + proto::sql_identifier(table.name());
}

std::string shown(const pb::TableName& table) {
  return proto::qualified_name(table.schema(), table.name());
}

Result<pb::DumpedSchema> ask_for_schema(transport::CopyClient& sender,
                                        const ReceiverOptions& options, const pb::Caller& caller,
                                        const std::vector<pb::TableName>& existing,
                                        const std::vector<pb::TableName>& tables,
                                        const std::string& snapshot, const std::stop_token& stop) {
  pb::DumpSchemaRequest request;
  *request.mutable_caller() = caller;
  request.mutable_tables()->Assign(tables.begin(), tables.end());
  request.mutable_existing()->Assign(existing.begin(), existing.end());
  request.mutable_patterns()->Assign(options.tables.begin(), options.tables.end());
  // Under the master's names only.
  for (const auto& pattern : options.targets.renamed_patterns())
    request.add_patterns("!" + pattern);
  request.set_snapshot(snapshot);
  return sender.dump_schema(request, stop);
}

Error hold_rows(const std::vector<std::string>& tables) {
  return {
      ErrorCode::kConfiguration,
      fmt::format("the standby's tables hold rows already: {}", fmt::join(tables, ", ")),
      "empty them, or have it done with --truncate; if both sides hold the same rows: --no-copy"};
}

pb::TableName target_of(const ReceiverOptions& options, const pb::TableName& table) {
  const auto target = options.targets.target(table.schema(), table.name());
  pb::TableName name;
  name.set_schema(target.schema);
  name.set_name(target.table);
  return name;
}

// Those of `tables` whose rows are already on the standby; refused when that is asked for.
Result<std::vector<apply::TargetRows>> filled_tables(StandbySession& standby,
                                                     const ReceiverOptions& options,
                                                     const std::vector<pb::TableName>& tables,
                                                     const std::vector<pb::TableName>& existing,
                                                     FilledTables what) {
  std::set<std::string> there;
  for (const auto& table : existing) there.insert(as_sql(table));
  std::vector<apply::TargetRows> filled;
  std::vector<std::string> names;
  for (const auto& table : tables) {
    const auto target = target_of(options, table);
    if (!there.contains(as_sql(target))) continue;
    if (options.targets.mingles(table.schema(), table.name())) continue;
    const auto condition = options.targets.own_rows(table.schema(), table.name());
    ASSIGN_OR_RETURN(const auto rows,
                     standby.query(fmt::format("cannot look into {}", shown(target)),
                                   fmt::format("SELECT FROM {}{}{} LIMIT 1", as_sql(target),
                                               condition.empty() ? "" : " WHERE ", condition)));
    if (rows.empty()) continue;
    filled.push_back({as_sql(target), condition});
    names.push_back(shown(target));
  }
  if (!filled.empty() && what == FilledTables::kRefuse) return hold_rows(names);
  return filled;
}

Result<void> check_all_there(StandbySession& standby, const ReceiverOptions& options,
                             const std::vector<pb::TableName>& tables) {
  ASSIGN_OR_RETURN(const auto existing, existing_tables(standby));
  std::set<std::string> there;
  for (const auto& table : existing) there.insert(as_sql(table));
  std::vector<std::string> missing;
  for (const auto& table : tables) {
    const auto target = target_of(options, table);
    if (there.contains(as_sql(target))) continue;
    missing.push_back(shown(target) == shown(table)
                          ? shown(table)
                          : fmt::format("{} (for {})", shown(target), shown(table)));
  }
  if (missing.empty()) return {};
  return Error{
      ErrorCode::kStandby, fmt::format("the standby has no table {}", fmt::join(missing, ", ")),
      "create it as on the master, have it done with --create-schema (under the master's names "
      "only), or leave it out with --tables"};
}

// Copying anew begins by taking back what was copied before.
Result<void> check_can_be_emptied(const ReceiverOptions& options,
                                  const std::vector<pb::TableName>& tables) {
  for (const auto& table : tables) {
    if (!options.targets.mingles(table.schema(), table.name())) continue;
    return Error{ErrorCode::kConfiguration,
                 fmt::format("{} cannot be copied anew: {} has rows of others too, and nothing "
                             "tells whose a row is",
                             shown(table), shown(target_of(options, table))),
                 "give its [table.'...'] section constants that tell its rows from the others'"};
  }
  return {};
}

// What the standby lacks, under the master's names.
Result<void> make_schema(transport::CopyClient& sender, StandbySession& standby,
                         const ReceiverOptions& options, const pb::CopyPlan& plan,
                         const pb::BeginCopyRequest& request,
                         const std::vector<pb::TableName>& existing, const std::stop_token& stop) {
  std::vector<pb::TableName> tables;  // at the first start those that the patterns choose
  if (request.caller().has_identity()) {
    for (const auto& table : request.tables()) {
      if (!options.targets.renames(table.schema(), table.name())) tables.push_back(table);
    }
    if (tables.empty()) return {};
  }
  ASSIGN_OR_RETURN(const auto schema, ask_for_schema(sender, options, request.caller(), existing,
                                                     tables, plan.snapshot(), stop));
  ASSIGN_OR_RETURN(const auto kept, apply::begin_schema(standby, options.name, schema));
  spdlog::info("event=schema_made entries={} kept={} later={}", schema.pre_data_size(), kept.size(),
               schema.post_data_size());
  return {};
}

Result<PreparedCopy> prepare(transport::CopyClient& sender, StandbySession& standby,
                             const ReceiverOptions& options, const pb::CopyPlan& plan,
                             const pb::BeginCopyRequest& request, FilledTables filled,
                             const std::stop_token& stop) {
  const std::vector<pb::TableName> tables(request.tables().begin(), request.tables().end());
  ASSIGN_OR_RETURN(const auto existing, existing_tables(standby));
  PreparedCopy prepared;
  ASSIGN_OR_RETURN(prepared.filled, filled_tables(standby, options, tables, existing, filled));
  if (options.copy.create_schema) {
    RETURN_IF_ERROR(make_schema(sender, standby, options, plan, request, existing, stop));
  }
  RETURN_IF_ERROR(check_all_there(standby, options, tables));
  prepared.plan = plan;
  return prepared;
}

void end_copy(transport::CopyClient& sender, const pb::Caller& caller, const pb::CopyPlan& plan) {
  pb::EndCopyRequest end;
  *end.mutable_caller() = caller;
  end.set_snapshot(plan.snapshot());
  const auto ended = sender.end(end);
  if (!ended.ok()) spdlog::debug("event=copy_not_ended reason=\"{}\"", one_line(ended.error()));
}

}  // namespace

Result<PreparedCopy> prepare_copy(StandbySession& standby, const ReceiverOptions& options,
                                  const pb::Caller& caller,
                                  const std::vector<pb::TableName>& tables, FilledTables filled,
                                  const transport::OnWaiting& waiting,
                                  const std::stop_token& stop) {
  if (caller.has_identity()) RETURN_IF_ERROR(check_can_be_emptied(options, tables));
  ASSIGN_OR_RETURN(const auto sender,
                   transport::CopyClient::dial(options.sender, options.tls, stop));
  pb::BeginCopyRequest request;
  *request.mutable_caller() = caller;
  request.mutable_tables()->Assign(tables.begin(), tables.end());
  ASSIGN_OR_RETURN(const auto plan, sender->begin(request, waiting, stop));
  auto prepared = prepare(*sender, standby, options, plan, request, filled, stop);
  if (!prepared.ok()) end_copy(*sender, caller, plan);
  return prepared;
}

Result<std::vector<pb::TableName>> tables_to_copy(const ReceiverOptions& options,
                                                  const pb::Welcome& welcome) {
  ASSIGN_OR_RETURN(const auto patterns, TablePatterns::parse(options.tables));
  std::vector<pb::TableName> tables;
  for (const auto& relation : welcome.relations()) {
    if (!patterns.matches(relation.schema(), relation.name())) continue;
    auto& table = tables.emplace_back();
    table.set_schema(relation.schema());
    table.set_name(relation.name());
  }
  return tables;
}

void give_up_copy(const ReceiverOptions& options, const pb::Caller& caller,
                  const pb::CopyPlan& plan) {
  const auto sender = transport::CopyClient::dial(options.sender, options.tls);
  if (sender.ok()) end_copy(**sender, caller, plan);
}

Result<void> print_schema(const ReceiverOptions& options, const std::stop_token& stop) {
  auto standby = StandbySession::connect(options.standby, "bitacora_" + options.name);
  if (!standby.ok()) return with_connect_hint(standby.error(), "--standby");
  ASSIGN_OR_RETURN(const auto existing, existing_tables(*standby));
  ASSIGN_OR_RETURN(const auto sender,
                   transport::CopyClient::dial(options.sender, options.tls, stop));
  pb::Caller caller;
  caller.set_stream(options.stream);
  caller.set_receiver(options.name);
  ASSIGN_OR_RETURN(const auto schema,
                   ask_for_schema(*sender, options, caller, existing, {}, "", stop));
  std::cout << "-- before the rows; what is there already is kept\n";
  for (const auto& entry : schema.pre_data()) std::cout << entry.sql() << "\n";
  std::cout << "-- after the rows\n";
  for (const auto& entry : schema.post_data()) std::cout << entry.sql() << "\n";
  return {};
}

}  // namespace bitacora::engine
