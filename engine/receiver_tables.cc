// The tables of a receiver: whether they fit, those that it is to make, and those it gets no more.
#include <algorithm>
#include <utility>
#include <vector>

#include "base/log.h"
#include "engine/preflight.h"
#include "engine/receiver.h"
#include "proto/relation.h"

namespace bitacora::engine {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kWelcomePatience{5};

}  // namespace

// At a start, when the sender is there: a table that does not fit is known before its first change.
Result<void> Receiver::look_at_tables(apply::StandbySession& standby, const std::stop_token& stop) {
  if (preflighted_) return {};
  const auto welcome = intake_->welcome(Clock::now() + kWelcomePatience, stop);
  if (!welcome.ok()) return welcome.error().heals() ? Result<void>{} : welcome.error();
  if (options_.copy.create_schema) {
    if (sync_.busy()) return {};
    ASSIGN_OR_RETURN(const auto missing, missing_tables(options_, *welcome));
    if (!missing.empty()) RETURN_IF_ERROR(adopt(missing, stop));
  }
  return preflight(standby, *welcome);
}

Result<void> Receiver::preflight(apply::StandbySession& standby, const pb::Welcome& welcome) {
  RETURN_IF_ERROR(engine::preflight(standby, options_, welcome));
  ASSIGN_OR_RETURN(preflighted_tables_, taken_tables(options_, welcome));
  preflighted_ = true;
  return {};
}

// Tables that the standby lacks, and is to have: they are made and copied like those of the start.
// The changes do not go past them: a copy that is going on may end first.
Result<void> Receiver::adopt(const std::vector<pb::Relation>& relations,
                             const std::stop_token& stop) {
  if (sync_.busy()) {
    sync_.wait_while_busy(stop);
    return {};
  }
  std::vector<pb::TableName> tables;
  for (const auto& relation : relations) {
    auto& table = tables.emplace_back();
    table.set_schema(relation.schema());
    table.set_name(relation.name());
    spdlog::info("event=table_is_new table={} action=\"making and copying it\"",
                 proto::qualified_name(relation));
  }
  auto requested = sync_.request_copy(tables, status_.applied());
  if (requested.ok() || requested.error().code != ErrorCode::kConfiguration) return requested;
  if (relations.size() != 1 || !is_shipped_no_more(relations[0])) return requested;
  return pass_over(relations[0], requested.error());
}

bool Receiver::is_shipped_no_more(const pb::Relation& relation) {
  const auto welcome = intake_->welcome(Clock::now(), {});
  return welcome.ok() &&
         std::none_of(welcome->relations().begin(), welcome->relations().end(),
                      [&](const pb::Relation& shipped) { return shipped.oid() == relation.oid(); });
}

// What was spooled of it is all there will be: no more of it follows what the spool has today.
Result<void> Receiver::pass_over(const pb::Relation& relation, const Error& reason) {
  const apply::SourceTable source{{relation.schema(), relation.name()}, relation.oid()};
  ASSIGN_OR_RETURN(auto standby, connect_another());
  RETURN_IF_ERROR(claims_.check(standby, {source}));  // that would be no word of the sender's
  const auto until = spool_->end_lsn();
  spdlog::warn(
      "event=table_not_shipped_any_more table={} until={} reason=\"{}\" action=\"passing over its "
      "changes\"",
      proto::qualified_name(relation), to_string(until), one_line(reason));
  passed_over_[proto::qualified_name(relation)] = until;
  return {};
}

// From there on a table that was passed over is looked at again, by another session.
bool Receiver::is_past_one(MasterLsn applied) {
  return std::erase_if(passed_over_, [&](const auto& table) { return table.second <= applied; }) >
         0;
}

// As the sender said last.
std::vector<apply::SourceTable> Receiver::shipped() {
  const auto welcome = intake_->welcome(Clock::now(), {});
  if (!welcome.ok()) return {};
  auto tables = taken_tables(options_, *welcome);
  return tables.ok() ? std::move(*tables) : std::vector<apply::SourceTable>{};
}

}  // namespace bitacora::engine
