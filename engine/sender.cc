#include "engine/sender.h"

#include <algorithm>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "base/backoff.h"
#include "base/interruptible_sleep.h"
#include "base/log.h"
#include "engine/own_readers.h"
#include "engine/publication_keeper.h"
#include "engine/reload.h"
#include "engine/sender_status.h"
#include "proto/relation.h"
#include "wal/published_tables.h"
#include "wal/replication_slot.h"

namespace bitacora::engine {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kQueueBytesMax = 16u << 20;
constexpr std::chrono::seconds kMonitorInterval{1};
constexpr std::chrono::seconds kComeBackTime{15};     // receivers look for us every five
constexpr std::uint64_t kAdvanceBytesMax = 1u << 30;  // in one call, which reads that WAL
constexpr int kNoteEvery = 10;  // monitor rounds between two writes of the state file

}  // namespace

Sender::Sender(SenderOptions options)
    : options_(std::move(options)),
      hub_({.queue_bytes_max = kQueueBytesMax, .own_readers = true}, [this] { wake_up_.signal(); }),
      live_reader_({options_.master, options_.slot(), options_.publication(),
                    "bitacora_" + options_.stream, &traffic_, options_.origins},
                   *this, wake_up_),
      catch_up_reader_(catch_up_options(&traffic_), *this),
      grants_(options_.receivers),
      query_session_(options_.master) {}

wal::CatchUpOptions Sender::catch_up_options(wal::TableTraffic* traffic) const {
  return {options_.master, options_.slot(), options_.publication(), "bitacora_" + options_.stream,
          traffic,         options_.origins};
}

Result<void> Sender::run(std::stop_token stop, ReloadRequests& reloads) {
  ASSIGN_OR_RETURN(auto state, SenderStateFile::open(options_.state_dir));
  // Ports first: one that is taken must not leave a slot behind.
  copies_.emplace(CopyServerOptions{options_.master, options_.publication(),
                                    shipped_patterns(options_), options_.pg_bin_dir},
                  [this](const pb::Caller& caller, const transport::Peer& peer) {
                    return serve(caller, peer);
                  });
  transport::ReplicationService service(
      hub_,
      [this](const pb::Hello& hello, const transport::Peer& peer) { return admit(hello, peer); },
      [this] { return heartbeat(); }, {}, &*copies_);
  ASSIGN_OR_RETURN(const auto page,
                   StatusServer::start(
                       options_.common.http, [this] { return status_document(); },
                       [this](const ControlRequest& request) { return control(request); }));
  ASSIGN_OR_RETURN(const auto server,
                   transport::ReplicationServer::start(options_.listen, options_.tls, service));

  wal::MasterSession lock_session(options_.master);
  auto master = find_master(lock_session, state, stop);
  if (!master.ok()) return stop.stop_requested() ? Result<void>{} : master.error();
  master_ = std::move(master).value();
  registry_.emplace(hub_, hold_, std::move(state), options_.keep_bytes_max);
  ready_ = true;
  spdlog::info("event=sender_ready stream={} listen={} http={}", options_.stream, options_.listen,
               options_.common.http);

  const std::stop_callback wake_on_stop(stop, [this] { wake_up_.signal(); });
  std::jthread monitoring([this](const std::stop_token& ended) { monitor(ended); });
  std::jthread reloading([this, &reloads](const std::stop_token& ended) {
    run_reloads(reloads, options_,
                {[this](const auto& running, const auto& fresh) { narrow_grants(running, fresh); },
                 [this](const auto& fresh, bool changed) { take_options(fresh, changed); }},
                ended);
  });
  auto result = [&] {
    const OwnReaders own_readers(hub_, catch_up_options(nullptr), master_view());
    return read_until_stop(lock_session, stop);
  }();
  reloading.request_stop();
  reloading.join();
  monitoring.request_stop();
  monitoring.join();
  hub_.disconnect_all();
  registry_->note_positions();
  return result;
}

MasterView Sender::master_view() {
  MasterView view;
  view.check_identity = [this](const wal::SystemIdentity& system) { return on_connected(system); };
  view.confirmed = [this] { return look_at_slot(); };
  view.binary_can_be_sent = [this] {
    const std::lock_guard lock(query_mutex_);
    return wal::binary_can_be_sent(query_session_, options_.publication());
  };
  view.on_declined = [this](const Error& reason) { on_own_reader_declined(reason); };
  return view;
}

// At the first start a master that is not there is an error for a person; later it is waited for,
// so that after a power cut the two may come up in any order.
Result<Master> Sender::find_master(wal::MasterSession& lock_session, SenderStateFile& state,
                                   const std::stop_token& stop) {
  Backoff backoff;
  std::string reported;
  while (true) {
    auto master = set_up_master(lock_session, options_, state, stop);
    if (master.ok() || !master.error().heals() || !state.state() || stop.stop_requested()) {
      return master;
    }
    if (auto line = one_line(master.error()); line != reported) {
      spdlog::warn("event=master_absent reason=\"{}\" action=\"trying again until it is there\"",
                   line);
      reported = std::move(line);
    }
    interruptible_sleep(backoff.next(), stop);
  }
}

Result<void> Sender::read_until_stop(wal::MasterSession& lock_session, std::stop_token stop) {
  Backoff backoff;
  bool lost = false;
  auto look_due = Clock::now();
  while (!stop.stop_requested()) {
    const auto start = hub_.activate();
    if (!start) {
      hub_.wait_for_receivers(Clock::now() + std::chrono::milliseconds(200));
      if (Clock::now() < look_due) continue;
      look_due = Clock::now() + kMonitorInterval;
      const auto looked = look_while_idle(lock_session);
      if (!looked.ok() && !looked.error().heals()) return looked.error();
      continue;
    }
    started_ = false;
    const auto ended = read_once(lock_session, *start, stop);
    if (ended.ok())
      continue;  // a receiver joined, the last one left, the other reader's turn, stop
    if (!ended.error().heals()) return ended.error();
    if (started_) {
      backoff.reset();
      lost = false;
    }
    if (!std::exchange(lost, true)) {
      spdlog::warn("event=master_lost reason=\"{}\" action=\"trying again until it is back\"",
                   one_line(ended.error()));
    }
    interruptible_sleep(backoff.next(), stop);
  }
  return {};
}

// Nobody is there to read for, so no walsender moves the slot. Whom it was held for may have been
// dropped or forgotten meanwhile.
Result<void> Sender::look_while_idle(wal::MasterSession& lock_session) {
  ASSIGN_OR_RETURN(const auto confirmed, look_at_slot());
  const auto wanted = registry_->releasable(MasterLsn{wal_lsn_}, retained_bytes_);
  if (wanted <= confirmed) return {};
  const MasterLsn next{std::min(wanted.value, confirmed.value + kAdvanceBytesMax)};
  // A walsender that has not yet noticed that we left it is in the way for a moment.
  const auto moved = wal::advance_slot(lock_session, options_.slot(), next);
  if (moved.ok()) {
    spdlog::info("event=slot_released slot={} from={} to={}", options_.slot(), to_string(confirmed),
                 to_string(next));
  } else {
    spdlog::warn("event=slot_not_released reason=\"{}\"", one_line(moved.error()));
  }
  return {};
}

Result<void> Sender::read_once(wal::MasterSession& lock_session, MasterLsn start_lsn,
                               const std::stop_token& stop) {
  ASSIGN_OR_RETURN(const bool locked, lock_session.try_lock_slot(options_.slot()));
  if (!locked) {
    return Error{ErrorCode::kMaster,
                 "another sender took the slot while the master was away",
                 {},
                 Recovery::kRetry};
  }
  publication_changed_ = false;
  ASSIGN_OR_RETURN(const bool binary,
                   wal::binary_can_be_sent(lock_session, options_.publication()));
  asked_for_binary_ = binary;
  live_reader_.ask_for_binary(binary);
  catch_up_reader_.ask_for_binary(binary);
  reading_from_ = start_lsn;
  read_lsn_ = start_lsn.value;
  observe_slot();
  return choice_.begins_with_catch_up(backlog(), Clock::now()) ? catch_up(stop) : read_live(stop);
}

// As far as the monitor knows. Of whatever kind that WAL is: nobody knows before it is read. Inside
// of a large transaction the walsender reads on for long without a word: then it knows better.
Backlog Sender::live_backlog() const {
  Backlog live = backlog();
  live.bytes = std::min(live.bytes, unread_wal_.load());
  return live;
}

Backlog Sender::backlog() const {
  const auto between = [](std::uint64_t from, std::uint64_t to) {
    return to > from ? to - from : 0;
  };
  return {between(read_lsn_, wal_lsn_), between(restart_lsn_, read_lsn_)};
}

Result<void> Sender::catch_up(const std::stop_token& stop) {
  catching_up_ = true;
  const auto end = catch_up_reader_.run(reading_from_, stop);
  catching_up_ = false;
  if (catch_up_reader_.mid_transaction()) hub_.abandon_transaction();
  if (end.ok() && *end == wal::CatchUpEnd::kInProgress) {
    if (choice_.on_declined("a large transaction is in progress", Clock::now()))
      spdlog::info("event=catch_up_left reason=\"a large transaction is in progress\"");
    return {};
  }
  const bool declined = end.ok() ? *end == wal::CatchUpEnd::kTooLarge
                                 : end.error().code == ErrorCode::kMaster && !end.error().heals();
  if (!declined) {
    if (end.ok()) choice_.on_caught_up();
    return end.ok() ? Result<void>{} : end.error();
  }
  const std::string reason =
      end.ok() ? "the oldest open transaction began too far back" : one_line(end.error());
  if (choice_.on_declined(reason, Clock::now()))
    spdlog::warn("event=catch_up_declined reason=\"{}\" action=\"reading live\"", reason);
  return {};
}

// From a receiver's own reader.
void Sender::on_own_reader_declined(const Error& reason) {
  const std::lock_guard lock(query_mutex_);
  auto line = one_line(reason);
  if (line == own_declined_reason_) return;
  spdlog::warn(
      "event=own_reader_declined reason=\"{}\" action=\"the common reader waits for every "
      "receiver, and goes back for whoever joins behind\" hint=\"leave one of "
      "max_replication_slots and max_wal_senders free for each receiver\"",
      line);
  own_declined_reason_ = std::move(line);
}

// A table joined whose values the master cannot send as it was asked to: the next run asks anew.
bool Sender::has_to_ask_for_text() {
  if (!asked_for_binary_) return false;
  const std::lock_guard lock(query_mutex_);
  const auto binary = wal::binary_can_be_sent(query_session_, options_.publication());
  return binary.ok() && !*binary;
}

Result<void> Sender::read_live(const std::stop_token& stop) {
  const auto ended = live_reader_.run(reading_from_, stop);
  if (live_reader_.mid_transaction()) hub_.abandon_transaction();
  if (ended.ok() || ended.error().heals()) return ended;
  if (has_to_ask_for_text())
    return Error{ErrorCode::kMaster, ended.error().message, {}, Recovery::kRetry};
  // A slot that is gone or was invalidated is what to tell, rather than what followed from it.
  const auto slot = look_at_slot();
  return slot.ok() || slot.error().heals() ? ended : slot.error();
}

// The address may lead to another server since: a standby of the master that was promoted, or one
// that has nothing to do with it.
Result<void> Sender::on_connected(const wal::SystemIdentity& system) {
  pb::Identity identity = master_.identity;
  identity.set_system_identifier(system.system_identifier);
  identity.set_database(system.database);
  if (!proto::same_identity(identity, master_.identity)) {
    return Error{ErrorCode::kState,
                 fmt::format("--master leads to ({}) now, it was ({})", proto::describe(identity),
                             proto::describe(master_.identity)),
                 "point --master at the right one, or begin anew with an empty --state-dir"};
  }
  const std::lock_guard lock(query_mutex_);
  if (system.history == master_.history) return {};
  spdlog::warn("event=timeline_changed from={} to={}", master_.history.timeline,
               system.history.timeline);
  master_.history = system.history;
  hub_.disconnect_all();  // each is looked at again when it comes back
  return Error{ErrorCode::kMaster,
               fmt::format("the master went over to timeline {}", system.history.timeline),
               {},
               Recovery::kRetry};
}

// Looked at while we hold the slot, so that nobody can put another in its place.
Result<void> Sender::on_started() {
  ASSIGN_OR_RETURN(const auto confirmed, look_at_slot());
  // START_REPLICATION has moved the start forward to it without a word.
  started_ = true;
  if (reading_from_ >= confirmed) return {};
  return Error{
      ErrorCode::kState,
      fmt::format("slot {} is confirmed up to {}, but a receiver still needs changes from {}",
                  options_.slot(), to_string(confirmed), to_string(reading_from_)),
      "somebody else advanced the slot: make the tables equal again and begin anew (bitacora "
      "drop)"};
}

Result<MasterLsn> Sender::slot_position() {
  return confirmed_position(query_session_, options_.slot(), registry_->slot_from());
}

Result<MasterLsn> Sender::look_at_slot() {
  const std::lock_guard lock(query_mutex_);
  return slot_position();
}

bool Sender::offer(const proto::SharedBatch& batch, Clock::time_point deadline) {
  if (!hub_.offer(batch, deadline)) return false;
  // A walsender's first word is where the slot is, which may be far behind where we began.
  read_lsn_ = std::max(read_lsn_.load(), batch->end_lsn.value);
  return true;
}

wal::StandbyStatus Sender::status() {
  const auto held = hold_.report();
  if (!held) return {};
  return {std::max(held->received, held->flushed), held->flushed, held->applied};
}

// A catch-up would wait for the end of what is streamed.
bool Sender::wants_restart(bool streaming) {
  return hub_.wants_restart() || publication_changed_ ||
         (!catching_up_ && !streaming && choice_.has_fallen_behind(live_backlog(), Clock::now()));
}

void Sender::on_master_position(MasterLsn wal_end, std::int64_t master_clock_usec) {
  wal_lsn_ = std::max(wal_lsn_.load(), wal_end.value);
  master_clock_usec_ = master_clock_usec;
}

pb::Heartbeat Sender::heartbeat() const {
  pb::Heartbeat heartbeat;
  heartbeat.set_wal_lsn(wal_lsn_);
  heartbeat.set_master_clock_usec(master_clock_usec_);
  return heartbeat;
}

void Sender::monitor(const std::stop_token& stop) {
  auto master_absent_at = Clock::now();
  for (int round = 1; !stop.stop_requested(); ++round) {
    if (!observe_slot()) master_absent_at = Clock::now();
    if (round % kNoteEvery == 0 || registry_->somebody_withdrew()) registry_->note_positions();
    // Without the master nobody is let in. Afterwards everybody has the time to come back.
    if (Clock::now() - master_absent_at > kComeBackTime)
      registry_->drop_absent(MasterLsn{wal_lsn_});
    copies_->expire();
    interruptible_sleep(kMonitorInterval, stop);
  }
}

bool Sender::observe_slot() {
  const std::lock_guard lock(query_mutex_);
  const auto slot = wal::find_slot(query_session_, options_.slot());
  if (!slot.ok() || !*slot) return false;  // the reader reports it
  confirmed_lsn_ = (*slot)->confirmed_flush_lsn.value;
  restart_lsn_ = (*slot)->restart_lsn.value;
  retained_bytes_ = (*slot)->retained_bytes;
  warn_of_losing(**slot);
  const auto unread = query_session_.unread_wal(options_.slot());
  unread_wal_ = unread.ok() && *unread ? **unread : 0;
  const auto wal_end = query_session_.current_wal_lsn();
  if (wal_end.ok()) wal_lsn_ = std::max(wal_lsn_.load(), wal_end->value);
  return wal_end.ok();
}

// In time: half of what the master keeps at most is used up. By then nobody has lost anything.
void Sender::warn_of_losing(const wal::ReplicationSlot& slot) {
  const bool endangered = slot.safe_wal_bytes && slot.wal_status != "lost" &&
                          *slot.safe_wal_bytes < static_cast<std::int64_t>(slot.retained_bytes);
  if (endangered == std::exchange(endangered_, endangered)) return;
  if (!endangered) {
    spdlog::info("event=slot_safe slot={} retained_bytes={}", options_.slot(), slot.retained_bytes);
    return;
  }
  const auto receivers = hub_.receivers();
  const auto slowest = std::min_element(
      receivers.begin(), receivers.end(),
      [](const auto& a, const auto& b) { return a.positions.flushed < b.positions.flushed; });
  spdlog::warn(
      "event=slot_endangered slot={} retained_bytes={} safe_wal_bytes={} held_by={} "
      "hint=\"bring that receiver back, or raise max_slot_wal_keep_size on the master\"",
      options_.slot(), slot.retained_bytes, *slot.safe_wal_bytes,
      slowest == receivers.end() ? "nobody" : slowest->receiver);
}

std::string Sender::status_document() const {
  return engine::status_document({options_.stream, options_.slot(), catching_up_, wal_lsn_,
                                  read_lsn_, confirmed_lsn_, retained_bytes_, hub_.receivers(),
                                  ready_ ? registry_->dropped() : decltype(registry_->dropped())(),
                                  traffic_.shares()});
}

}  // namespace bitacora::engine
