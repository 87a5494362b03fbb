// The apply side of a played receiver: sessions with its standby, and what must hold.
#include <utility>

#include "apply/reconcile.h"
#include "tests/simulator/played_receiver.h"

namespace bitacora::simulator {
namespace {

using Clock = transport::ChangeFeed::Clock;

}  // namespace

void PlayedReceiver::apply() {
  if (!standby_up_) return;
  if (!process_->applier) return begin_session();
  if (chance_.one_in(3)) process_->applier->tick();
  take_from_feed();
  if (!process_ || !process_->applier) return;
  const auto& applier = *process_->applier;
  process_->status.on_applied({applier.applied(), applier.durable()});
}

void PlayedReceiver::begin_session() {
  Process& process = *process_;
  std::optional<apply::Progress> row;
  if (standby_.state().progress) row = {played_identity(), *standby_.state().progress};
  std::optional<apply::Progress> noted;
  if (checkpoint_) noted = {played_identity(), checkpoint_->applied};
  const auto resume = apply::reconcile(row, noted);
  require(resume.ok(), "{}: {}", name_, resume.ok() ? "" : resume.error().message);
  if (resume->first_start) {
    process.intake_started = true;
    return;
  }
  const auto from = resume->from;
  standby_.flush(standby_.inserted());
  process.identity = played_identity();
  if (!covers() && process.resume != from) {
    process.resume = from;
    const auto& connection = process.connection;
    if (connection && connection->welcomed && !connection->agreeing) lose_connection();
  }
  process.intake_started = true;
  if (!covers()) return;
  const auto& spool = *process.spool;
  if (from > spool.end_lsn() && from > process.status.wal_lsn()) return;
  const auto sought = process.feed->seek(from);
  if (!sought.ok() && sought.error().heals()) return;
  require(sought.ok(), "{}: {}", name_, sought.ok() ? "" : sought.error().message);
  process.applier.emplace(master_, standby_, from, TablePatterns::parse(tables_).value());
  process.status.on_session(from);
  // Until the new beginning is on disk, a crash brings the old one back.
  if (spool.synced_mark()) restored_ = false;
  chance_.note("{}: applies from {}", name_, from);
}

bool PlayedReceiver::covers() const {
  const auto& spool = *process_->spool;
  return spool.identity() && spool.begin_lsn() <= *standby_.state().progress;
}

void PlayedReceiver::take_from_feed() {
  Process& process = *process_;
  const auto event = process.feed->next(Clock::time_point::min());
  if (!event.ok()) {
    require(event.error().heals(), "{}: {}", name_, event.error().message);
    return end_session();
  }
  if (std::holds_alternative<transport::FeedAbandoned>(*event)) return end_session();
  if (const auto* batch = std::get_if<transport::SpoolBatch>(&*event)) {
    const auto before = standby_.state().transactions;
    if (!process.applier->take(*batch->changes, process.feed->more_waiting())) return end_session();
    if (standby_.state().transactions == before) return;
    chance_.note("{}: applied up to transaction {}", name_, standby_.state().transactions);
  }
}

void PlayedReceiver::end_session() {
  chance_.note("{}: the session with the standby ends", name_);
  process_->applier.reset();
  process_->status.on_session_end();
}

void PlayedReceiver::stop_standby(bool crash) {
  standby_up_ = false;
  if (up()) end_session();
  if (crash) standby_.crash();
  chance_.note("{}: its standby {}", name_, crash ? "crashed" : "is away");
}

void PlayedReceiver::restore_standby() {
  if (!standby_.state().progress || !standby_.restore()) return;
  if (up()) end_session();
  restored_ = true;
  chance_.note("{}: its standby was restored, {} transactions", name_,
               standby_.state().transactions);
}

void PlayedReceiver::check() const {
  const auto& state = standby_.state();
  if (!state.progress) return;
  require(state.transactions == master_.transactions_before(*state.progress),
          "{}: {} transactions at {}, the master had {}", name_, state.transactions,
          *state.progress, master_.transactions_before(*state.progress));
  if (up()) check_holds();
}

void PlayedReceiver::check_holds() const {
  const auto& spool = *process_->spool;
  const auto durable = *standby_.durable().progress;
  if (sender_.registered(name_) && (spool.synced_mark() || !restored_)) {
    // Without a segment on disk the row says from where everything is needed.
    const auto held = std::max(spool.synced_lsn(), spool.synced_mark() ? MasterLsn{} : durable);
    require(master_.confirmed() <= held, "I1: the slot is confirmed up to {}, {} has {} on disk",
            master_.confirmed(), name_, held);
  }
  if (spool.identity() && !restored_) {
    require(spool.begin_lsn() <= durable, "I2: {}: the spool begins at {}, the standby is at {}",
            name_, spool.begin_lsn(), durable);
  }
}

}  // namespace bitacora::simulator
