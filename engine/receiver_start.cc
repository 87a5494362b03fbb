// The first start of a receiver: what the standby gets before anything is applied.
#include <utility>
#include <vector>

#include "apply/empty_table.h"
#include "apply/progress.h"
#include "apply/standby_command.h"
#include "engine/copy_preparation.h"
#include "engine/receiver.h"

namespace bitacora::engine {
namespace {

using Clock = std::chrono::steady_clock;

}  // namespace

// Nothing is kept here or there before everything fits. Once there is a row, or there may be one,
// the sender must not forget us, whatever happens: the row asks for what comes after it.
Result<void> Receiver::begin_first(apply::StandbySession& standby, apply::Resume& resume,
                                   const std::stop_token& stop) {
  if (!intake_->started()) intake_->start_first();
  ASSIGN_OR_RETURN(const auto welcome, intake_->welcome(Clock::time_point::max(), stop));
  resume.from = MasterLsn{welcome.start_lsn()};
  bool may_have_row = false;
  const auto begun = begin_on_standby(standby, welcome, resume.from, may_have_row, stop);
  if (!may_have_row) {
    intake_->refuse();
    return begun;
  }
  identity_ = welcome.identity();
  found_ = apply::CheckpointState{{identity_, resume.from}, {}};
  intake_->accept();
  RETURN_IF_ERROR(begun);
  // Else a crash of the standby could take the row, but not our checkpoint, which says it was
  // there.
  return apply::make_progress_durable(standby, options_.name);
}

Result<void> Receiver::begin_on_standby(apply::StandbySession& standby, const pb::Welcome& welcome,
                                        MasterLsn from, bool& may_have_row,
                                        const std::stop_token& stop) {
  const apply::Progress progress{welcome.identity(), from};
  if (!options_.copy.none) return begin_with_copy(standby, welcome, progress, may_have_row, stop);
  RETURN_IF_ERROR(preflight(standby, welcome));
  auto begun = apply::create_progress(standby, options_.name, progress);
  may_have_row = begun.ok() || begun.error().heals();
  return begun;
}

Result<void> Receiver::begin_with_copy(apply::StandbySession& standby, const pb::Welcome& welcome,
                                       const apply::Progress& progress, bool& may_have_row,
                                       const std::stop_token& stop) {
  ASSIGN_OR_RETURN(const auto tables, tables_to_copy(options_, welcome));
  ASSIGN_OR_RETURN(const auto prepared, prepare_copy(standby, options_, caller(), tables,
                                                     options_.copy.truncate ? FilledTables::kEmpty
                                                                            : FilledTables::kRefuse,
                                                     waiting_report(status_.copy()), stop));
  if (const auto fits = preflight(standby, welcome); !fits.ok()) {
    give_up_copy(options_, caller(), prepared.plan);
    return fits;
  }
  const auto begun = apply::in_transaction(standby, "cannot begin the copy", [&]() -> Result<void> {
    RETURN_IF_ERROR(apply::empty_tables(standby, prepared.filled));
    // 0/0 until everything is here; without tables it is.
    const auto visible = tables.empty() ? progress.applied_lsn : MasterLsn{};
    RETURN_IF_ERROR(apply::create_progress(standby, options_.name, {progress.identity, visible}));
    return sync_.begin_first(standby, prepared.plan, progress.applied_lsn);
  });
  may_have_row = begun.ok() || begun.error().heals();
  if (!may_have_row) give_up_copy(options_, caller(), prepared.plan);
  return begun;
}

}  // namespace bitacora::engine
