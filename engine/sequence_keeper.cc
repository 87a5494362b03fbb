#include "engine/sequence_keeper.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/interruptible_sleep.h"
#include "base/log.h"
#include "proto/relation.h"

namespace bitacora::engine {

SequenceKeeper::SequenceKeeper(const ReceiverOptions& options, pb::Caller caller,
                               ReceiverStatus& status)
    : options_(options), caller_(std::move(caller)), status_(status) {
  if (options_.sequences_interval.count() > 0)
    thread_ = std::jthread([this] { run(over_.get_token()); });
}

SequenceKeeper::~SequenceKeeper() { over_.request_stop(); }

void SequenceKeeper::run(const std::stop_token& stop) {
  std::string reported;
  do {
    const auto synced = sync();
    // What heals is told by those who wait for it.
    const bool told = !synced.ok() && !synced.error().heals();
    const auto line = told ? one_line(synced.error()) : std::string();
    if (line != std::exchange(reported, line) && !line.empty())
      spdlog::warn("event=sequences_not_set reason=\"{}\" action=\"trying again\"", line);
  } while (interruptible_sleep(options_.sequences_interval, stop));
}

Result<apply::SequencesSet> SequenceKeeper::sync() {
  const std::lock_guard lock(mutex_);
  auto synced = sync_once();
  if (!synced.ok()) {
    sender_.reset();
    standby_.reset();
  }
  return synced;
}

Result<void> SequenceKeeper::connect() {
  if (!sender_) {
    ASSIGN_OR_RETURN(sender_,
                     transport::CopyClient::dial(options_.sender, options_.tls, over_.get_token()));
  }
  if (standby_) return {};
  ASSIGN_OR_RETURN(auto standby,
                   apply::StandbySession::connect(options_.standby, "bitacora_" + options_.name));
  // Somebody may be altering a sequence: a stop does not wait for long.
  const auto bounded = standby.query("cannot bound a wait", "SET lock_timeout = '3s'");
  if (!bounded.ok()) return bounded.error();
  standby_.emplace(std::move(standby));
  return {};
}

Result<apply::SequencesSet> SequenceKeeper::sync_once() {
  RETURN_IF_ERROR(connect());
  pb::ReadSequencesRequest request;
  *request.mutable_caller() = caller_;
  ASSIGN_OR_RETURN(const auto values, sender_->sequences(request, over_.get_token()));
  auto taken = this->taken(values);
  ASSIGN_OR_RETURN(const auto missing, rename(taken));
  ASSIGN_OR_RETURN(auto set, apply::set_sequences(*standby_, taken));
  set.missing.insert(set.missing.end(), missing.begin(), missing.end());
  warn_of(values, set);
  status_.on_sequences(set.equal + set.set);
  return set;
}

// A sequence goes with a table that it serves; one that serves none, by its own name. Where several
// tables or masters feed one table, none of their sequences is the one of that table.
pb::SequenceValues SequenceKeeper::taken(const pb::SequenceValues& all) const {
  const auto patterns = TablePatterns::parse(options_.tables);
  CHECK(patterns.ok());  // looked at when the options were
  pb::SequenceValues taken;
  for (const auto& value : all.values()) {
    const auto& tables = value.tables();
    const bool by_table =
        std::any_of(tables.begin(), tables.end(), [&](const pb::TableName& table) {
          return patterns->matches(table.schema(), table.name()) &&
                 !options_.targets.shares(table.schema(), table.name());
        });
    const bool by_name = tables.empty() && patterns->matches(value.schema(), value.name());
    if (!by_table && !by_name) continue;
    *taken.add_values() = value;
  }
  return taken;
}

// By the standby's names. A sequence that goes with a column of a table that is called otherwise is
// that column's there; any other one has its own name, in the schema's. Answers those of such
// columns that have none there: a sequence of the master's name would be somebody else's.
Result<std::vector<std::string>> SequenceKeeper::rename(pb::SequenceValues& taken) {
  const auto& rules = options_.targets;
  pb::SequenceValues renamed;
  std::vector<apply::SequenceColumn> columns;
  std::vector<pb::SequenceValue> of_columns;
  for (auto& value : *taken.mutable_values()) {
    if (!value.column().empty()) {
      const auto& table = value.tables(0);
      const auto target = rules.target(table.schema(), table.name());
      const auto column = rules.column(table.schema(), table.name(), value.column());
      if (column.empty()) continue;  // left out
      if (rules.renames(table.schema(), table.name()) || column != value.column()) {
        columns.push_back({target.schema, target.table, column});
        of_columns.push_back(value);
        continue;
      }
    }
    value.set_schema(rules.schema(value.schema()));
    renamed.add_values()->Swap(&value);
  }
  ASSIGN_OR_RETURN(const auto sequences, apply::sequences_of(*standby_, columns));
  std::vector<std::string> missing;
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    if (!sequences[i]) {
      const auto& [schema, table, column] = columns[i];
      missing.push_back(proto::qualified_name(schema, table) + "." + proto::quoted_name(column));
      continue;
    }
    auto& value = *renamed.add_values() = std::move(of_columns[i]);
    value.set_schema(sequences[i]->schema());
    value.set_name(sequences[i]->name());
  }
  taken = std::move(renamed);
  return missing;
}

void SequenceKeeper::warn_of(const pb::SequenceValues& values, const apply::SequencesSet& set) {
  const auto names = fmt::format("unreadable=\"{}\" missing=\"{}\" refused=\"{}\"",
                                 fmt::join(values.unreadable(), ", "), fmt::join(set.missing, ", "),
                                 fmt::join(set.refused, ", "));
  const bool nothing = values.unreadable().empty() && set.missing.empty() && set.refused.empty();
  if (names == std::exchange(warned_, names) || nothing) return;
  spdlog::warn(
      "event=sequences_left {} hint=\"on the master GRANT SELECT, on the standby GRANT UPDATE, ON "
      "SEQUENCE ...; missing ones can be created at any time\"",
      names);
}

}  // namespace bitacora::engine
