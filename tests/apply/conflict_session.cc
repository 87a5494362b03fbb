#include "tests/apply/conflict_session.h"

#include <stdexcept>

#include "apply/conflict_log.h"

namespace bitacora::apply {

const char* name_of(Way way) {
  if (way == Way::kOneTrip) return "one trip";
  return way == Way::kGrouped ? "grouped" : "fast";
}

ConflictPolicies ConflictTest::policies(const std::vector<std::string>& rules) {
  ConflictPolicies policies;
  for (const auto& rule : rules) {
    const auto equals = rule.find('=');
    auto tables = TablePatterns::parse({rule.substr(0, equals)});
    const auto policy = conflict_policy(rule.substr(equals + 1));
    if (!tables.ok() || !policy) throw std::runtime_error("no rule: " + rule);
    policies.add({rule, *tables, *policy});
  }
  return policies;
}

ApplierOptions ConflictTest::options(Way way, const std::vector<std::string>& rules) {
  ApplierOptions options;
  options.conflicts = policies(rules);
  if (way == Way::kGrouped) options.one_trip_rows_max = 0;
  options.path = way == Way::kFast ? ApplyPath::kFast : ApplyPath::kExact;
  return options;
}

void ConflictTest::make_conflict_table() const {
  on_standby("CREATE SCHEMA IF NOT EXISTS bitacora");
  auto session = StandbySession::connect(standby(), "conflict test");
  if (!session.ok()) throw std::runtime_error(one_line(session.error()));
  const auto made = ensure_conflict_table(*session);
  if (!made.ok()) throw std::runtime_error(one_line(made.error()));
}

Result<void> ConflictTest::take(const Applier::Batch& batch, ApplierOptions options) {
  constexpr int kSessionsMax = 5;
  Result<void> taken;
  for (sessions_ = 1; sessions_ <= kSessionsMax; ++sessions_) {
    ApplySession session(standby(), options);
    taken = session.take(batch);
    conflicts_ += session.applier().counts().conflicts;
    const auto refusal = session.applier().refusal();
    if (taken.ok() || !refusal) return taken;
    if (refusal->careful) {
      options.careful_tables[refusal->table] = {refusal->through, {}};
    } else {
      options.exact_through = refusal->through;
    }
  }
  return taken;
}

std::string ConflictTest::logged() const {
  return standby_value(
      "SELECT string_agg(concat_ws('|', conflict_type, operation, policy, key,"
      " coalesce(local_row::text, '-'), coalesce(remote_row::text, '-')), E'\\n' ORDER BY id)"
      " FROM bitacora.conflicts");
}

std::string ConflictTest::rows(const std::string& table) const {
  return standby_value("SELECT string_agg(t::text, ' ' ORDER BY t::text) FROM " + table + " t");
}

void ConflictTest::begin_anew() const {
  clear();
  make_conflict_table();
}

void ConflictTest::begin_case(PlayedMaster& played, const std::string& empty) const {
  played.execute(empty);
  on_standby(empty + "; DELETE FROM bitacora.conflicts; DELETE FROM bitacora.progress");
}

}  // namespace bitacora::apply
