#include "apply/careful_path.h"

#include <algorithm>
#include <utility>

#include "base/sqlstate.h"
#include "proto/relation.h"

namespace bitacora::apply {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kRunMax = 256;
constexpr std::size_t kRunMin = 8;

}  // namespace

CarefulPath::CarefulPath(Exchange& exchange, ExactPath& exact, CarefulOptions options)
    : options_(std::move(options)),
      exact_(exact),
      guarded_(exchange),
      resolver_(guarded_, exact, options_.policies, options_.subscription, options_.conninfo),
      tables_(options_.tables),
      run_(kRunMax) {}

Result<void> CarefulPath::start() {
  return options_.policies.resolves_any() ? guarded_.start() : Result<void>{};
}

bool CarefulPath::covers(const MappedTable& table, MasterLsn commit_lsn) const {
  if (tables_.empty()) return false;
  const auto found = tables_.find(proto::qualified_name(table.relation));
  if (found == tables_.end()) return false;
  const auto& [through, until] = found->second;
  return commit_lsn <= through || Clock::now() < until ||
         std::any_of(held_.begin(), held_.end(),
                     [&](const HeldRow& held) { return held.table == &table; });
}

bool CarefulPath::may_help(const MappedTable& table, MasterLsn commit_lsn) const {
  const auto& source = table.source;
  return options_.policies.of(source.schema(), source.name()) != ConflictPolicy::kError &&
         !covers(table, commit_lsn);
}

Result<void> CarefulPath::write(HeldRow row) {
  held_.push_back(std::move(row));
  return held_.size() < kRunMax ? Result<void>{} : settle();
}

Result<void> CarefulPath::settle() {
  while (!held_.empty()) RETURN_IF_ERROR(settle_run());
  return {};
}

// What was sent before the row that stops a run is undone with it, and sent again.
Result<void> CarefulPath::settle_run() {
  const auto rows = std::min(run_, held_.size());
  ASSIGN_OR_RETURN(auto stopped, attempt(rows));
  if (!stopped) {
    drop(rows);
    run_ = std::min(run_ * 2, kRunMax);
    return {};
  }
  run_ = std::max(rows / 2, kRunMin);
  if (stopped->at > 0) {
    ASSIGN_OR_RETURN(const auto again, attempt(stopped->at));
    if (again) return {};  // somebody else writes here too: from the beginning
    drop(stopped->at);
  }
  return resolve_first(std::move(stopped->refusal));
}

Result<std::optional<CarefulPath::Stopped>> CarefulPath::attempt(std::size_t rows) {
  RETURN_IF_ERROR(guarded_.begin());
  for (std::size_t i = 0; i < rows; ++i) {
    const HeldRow& held = held_[i];
    ExactPath::note_formats(*held.table, *held.origin.block);
    ASSIGN_OR_RETURN(
        [[maybe_unused]] const bool sent,
        exact_.make_ready(held.batch, held.origin, *held.table, held.operation, held.row));
  }
  for (std::size_t i = 0; i < rows; ++i) {
    const HeldRow& held = held_[i];
    ExactPath::note_formats(*held.table, *held.origin.block);
    RETURN_IF_ERROR(
        exact_.write_guarded(held.batch, held.origin, *held.table, held.operation, held.row));
  }
  ASSIGN_OR_RETURN(auto outcome, guarded_.end());
  if (!outcome.refusal) return std::optional<Stopped>{};
  const auto at = std::find_if(held_.begin(), held_.end(), [&](const HeldRow& held) {
    return held.origin.block == outcome.refused.block && held.origin.index == outcome.refused.index;
  });
  if (at == held_.end() || recovery_for_sqlstate(outcome.refusal->sqlstate) != Recovery::kStop) {
    return Error{ErrorCode::kStandby,
                 "the standby refused a run of rows: " + outcome.refusal->message,
                 {},
                 recovery_for_sqlstate(outcome.refusal->sqlstate)};
  }
  return std::optional(Stopped{static_cast<std::size_t>(at - held_.begin()), *outcome.refusal});
}

Result<void> CarefulPath::resolve_first(RowRefusal refusal) {
  RETURN_IF_ERROR(resolver_.resolve(held_.front(), std::move(refusal)));
  tables_[proto::qualified_name(held_.front().table->relation)].until = Clock::now() + kCarefulTime;
  drop(1);
  return {};
}

void CarefulPath::drop(std::size_t rows) {
  held_.erase(held_.begin(), held_.begin() + static_cast<std::ptrdiff_t>(rows));
}

std::uint64_t CarefulPath::on_commit() {
  CHECK(held_.empty());
  guarded_.forget();
  return resolver_.resolved() - std::exchange(counted_, resolver_.resolved());
}

}  // namespace bitacora::apply
