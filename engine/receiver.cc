#include "engine/receiver.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "apply/conflict_log.h"
#include "apply/progress.h"
#include "apply/replication_origin.h"
#include "base/backoff.h"
#include "base/file_system.h"
#include "base/interruptible_sleep.h"
#include "base/log.h"
#include "engine/connect_hint.h"
#include "engine/standby_watch.h"
#include "engine/status_server.h"
#include "engine/table_name.h"
#include "proto/relation.h"
#include "transport/posix_storage.h"

namespace bitacora::engine {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr std::size_t kFeedBytesMax = 32u << 20;  // received and not yet applied, in memory
constexpr std::chrono::seconds kStartPatience{
    15};  // a killed predecessor's session, a server that is starting up
constexpr std::chrono::seconds kWalPatience{5};     // several of the sender's heartbeats
constexpr std::chrono::minutes kExactTableTime{1};  // after the fast path failed at a table
constexpr milliseconds kTickInterval{20};
constexpr milliseconds kQuietInterval{200};
constexpr milliseconds kCoverInterval{100};

Error stopping() { return {ErrorCode::kNetwork, "the receiver is stopping", {}, Recovery::kRetry}; }

bool is_starting_up(const Error& error) {
  return error.message.find("starting up") != std::string::npos ||
         error.message.find("accepting connections") != std::string::npos;
}

std::optional<transport::SyncedMark> synced_mark(
    const std::optional<apply::CheckpointState>& checkpoint) {
  if (!checkpoint || !checkpoint->spool) return std::nullopt;
  return transport::SyncedMark{checkpoint->spool->segment, checkpoint->spool->bytes,
                               checkpoint->spool->lsn};
}

}  // namespace

Receiver::Receiver(ReceiverOptions options)
    : options_(std::move(options)),
      status_(options_.name),
      claims_(options_.standby, options_.name, options_.targets, [this] { return shipped(); }),
      sync_(options_, status_.copy(), claims_, [this](MasterLsn from) { keeper_->hold(from); }) {}

Result<void> Receiver::run(std::stop_token stop) {
  RETURN_IF_ERROR(open());
  feed_.emplace(*spool_, kFeedBytesMax);
  keeper_.emplace(*spool_, *checkpoint_, status_);
  intake_.emplace(options_, checkpoint_->instance(), *spool_, *feed_, *keeper_, status_);
  const auto ended = serve(stop);
  sequences_.reset();
  intake_.reset();
  keeper_.reset();
  return ended;
}

// The page's threads use what it is served over: they end first.
Result<void> Receiver::serve(const std::stop_token& stop) {
  ASSIGN_OR_RETURN(const auto page,
                   StatusServer::start(
                       options_.common.http, [this] { return status_.document(); },
                       [this](const ControlRequest& request) { return control(request); }));
  // The master's WAL need not wait until the standby is there.
  if (found_ && spool_->identity()) intake_->start(identity_, {});
  const StandbyWatch watch(options_, status_);
  return run_sessions(stop);
}

Result<void> Receiver::open() {
  ASSIGN_OR_RETURN(checkpoint_, apply::Checkpoint::open(options_.data_dir));
  if (const auto network = network_file_system(std::filesystem::path(options_.data_dir))) {
    spdlog::warn(
        "event=network_file_system data_dir={} type={} meaning=\"LMDB's locks and memory maps are "
        "not safe on it\" hint=\"give --data-dir a local disk\"",
        options_.data_dir, *network);
  }
  ASSIGN_OR_RETURN(found_, checkpoint_->load());
  ASSIGN_OR_RETURN(auto storage, transport::open_posix_storage(options_.data_dir + "/spool"));
  auto options = options_.spool;
  if (found_) options.identity = found_->progress.identity;
  ASSIGN_OR_RETURN(spool_,
                   transport::Spool::open(std::move(storage), options, synced_mark(found_)));
  // Killed before its first checkpoint, it has a spool and a progress row already.
  if (const auto spooled = spool_->identity(); spooled && !found_)
    found_ = apply::CheckpointState{{*spooled, spool_->begin_lsn()}, {}};
  waits_for_standby_ = found_.has_value();
  if (found_) identity_ = found_->progress.identity;
  return {};
}

Result<void> Receiver::run_sessions(const std::stop_token& stop) {
  Backoff backoff;
  std::string reported;
  while (!stop.stop_requested()) {
    const auto ended = run_session(stop);
    const bool had_begun = status_.on_session_end();
    if (stop.stop_requested()) break;
    if (ended.ok()) continue;  // tables came in
    const Error& error = ended.error();
    if (goes_on_otherwise(error)) continue;
    const auto line = one_line(error);
    status_.on_error(redacted(line));
    if (!error.heals()) {
      status_.on_stopped();
      return error;
    }
    if (had_begun) {
      backoff.reset();
      reported.clear();
    }
    if (line != std::exchange(reported, line)) {
      spdlog::warn("event=session_lost reason=\"{}\" action=\"trying again until it heals\"", line);
    }
    interruptible_sleep(backoff.next(), stop);
  }
  return {};
}

// Once more from the progress row, by a slower path: either it does what the other could not, or it
// says which row is in the way.
bool Receiver::goes_on_otherwise(const Error& error) {
  const auto refusal = std::exchange(refusal_, std::nullopt);
  if (!refusal) return false;
  if (refusal->careful) {
    spdlog::info("event=careful_path through={} table={} reason=\"{}\"",
                 to_string(refusal->through), refusal->table, redacted(one_line(error)));
    careful_tables_[refusal->table] = {refusal->through, Clock::now() + apply::kCarefulTime};
    return true;
  }
  spdlog::info("event=exact_path through={} table={} reason=\"{}\"", to_string(refusal->through),
               refusal->table, redacted(one_line(error)));
  exact_through_ = std::max(exact_through_, refusal->through);
  if (!refusal->table.empty()) exact_tables_[refusal->table] = Clock::now() + kExactTableTime;
  return true;
}

apply::ApplierOptions Receiver::applier_options() {
  std::erase_if(exact_tables_, [](const auto& table) { return table.second < Clock::now(); });
  apply::ApplierOptions options;
  options.subscription = options_.name;
  options.conninfo = options_.standby;
  options.path = options_.apply_path;
  options.exact_through = exact_through_;
  options.on_group_end = [this] { feed_->wake(); };
  options.exact_tables = exact_tables_;
  options.conflicts = options_.conflicts;
  options.careful_tables = careful_tables_;
  return options;
}

// A standby that was never there is an error for a person; one that was is waited for.
Result<apply::StandbySession> Receiver::connect_standby(std::stop_token stop) {
  const auto deadline = Clock::now() + kStartPatience;
  while (true) {
    auto session = apply::StandbySession::connect(options_.standby, "bitacora_" + options_.name);
    if (session.ok()) {
      ASSIGN_OR_RETURN(const bool locked, session->try_lock(options_.name));
      if (locked) {
        waits_for_standby_ = true;
        RETURN_IF_ERROR(apply::mark_what_is_applied(*session));
        return session;
      }
    } else if (waits_for_standby_ || !is_starting_up(session.error())) {
      Error error = with_connect_hint(session.error(), "--standby");
      if (!waits_for_standby_) error.recovery = Recovery::kStop;
      return error;
    }
    if (Clock::now() >= deadline || stop.stop_requested()) break;
    interruptible_sleep(milliseconds(100), stop);
  }
  return Error{ErrorCode::kConfiguration,
               fmt::format("another receiver named {} applies to this standby", options_.name),
               "give this receiver another --name, or stop the other one",
               preflighted_ ? Recovery::kRetry : Recovery::kStop};
}

Result<std::vector<apply::StandbySession>> Receiver::connect_others() {
  std::vector<apply::StandbySession> others;
  while (others.size() + 1 < options_.workers) {
    ASSIGN_OR_RETURN(auto session, connect_another());
    others.push_back(std::move(session));
  }
  return others;
}

// Beside the session that holds the lock.
Result<apply::StandbySession> Receiver::connect_another() {
  ASSIGN_OR_RETURN(auto session,
                   apply::StandbySession::connect(options_.standby, "bitacora_" + options_.name));
  RETURN_IF_ERROR(session.join(options_.name));
  RETURN_IF_ERROR(apply::mark_what_is_applied(session));
  return session;
}

Result<void> Receiver::run_session(std::stop_token stop) {
  ASSIGN_OR_RETURN(auto standby, connect_standby(stop));
  // A statement that waits for a lock must not hold a stop back.
  const std::stop_callback cancel_on_stop(stop, [&] { standby.cancel(); });
  return run_session(standby, stop);
}

Result<void> Receiver::run_session(apply::StandbySession& standby, const std::stop_token& stop) {
  ASSIGN_OR_RETURN(auto found, find_resume(standby));
  if (found.first_start) {
    RETURN_IF_ERROR(begin_first(standby, found, stop));
    ASSIGN_OR_RETURN(found, find_resume(standby));
    sync_.follow(caller());
    RETURN_IF_ERROR(sync_.load(standby, found.from, found.copies));
  } else {
    RETURN_IF_ERROR(resume(standby, found, stop));
  }
  keeper_->follow(identity_);
  if (preflighted_tables_) {
    RETURN_IF_ERROR(claims_.begin(standby, *preflighted_tables_));
    preflighted_tables_.reset();
  }
  RETURN_IF_ERROR(sync_.copy_first(standby, stop));
  if (options_.conflicts.resolves_any()) RETURN_IF_ERROR(apply::ensure_conflict_table(standby));
  if (sync_.needs_replay()) RETURN_IF_ERROR(replay(standby, found.from, stop));
  sync_.start_in_background();
  const auto ended = apply_session(standby, found.from, stop);
  sync_.end_background();
  return ended;
}

// What the spool has to hold is more than the rows need, while tables are on their way.
Result<void> Receiver::resume(apply::StandbySession& standby, const apply::Resume& found,
                              const std::stop_token& stop) {
  const auto from = found.from;
  RETURN_IF_ERROR(apply::make_progress_durable(standby, options_.name));
  sync_.follow(caller());
  RETURN_IF_ERROR(sync_.load(standby, from, found.copies));
  status_.set_durable(from);  // nothing after it is trimmed from here on
  const auto needed = sync_.needed_from();
  if (needed.valid() && needed < from && !(spool_->identity() && spool_->begin_lsn() <= needed)) {
    RETURN_IF_ERROR(sync_.begin_anew(standby, from));
  }
  RETURN_IF_ERROR(continue_from(from, stop));
  return look_at_tables(standby, stop);
}

Result<void> Receiver::apply_session(apply::StandbySession& standby, MasterLsn from,
                                     const std::stop_token& stop) {
  ASSIGN_OR_RETURN(auto patterns, TablePatterns::parse(options_.tables));
  apply::StandbyCatalog catalog(options_.standby);
  auto scope = sync_.scope(std::move(patterns));
  for (const auto& [name, until] : passed_over_) scope.left_out.insert(name);
  apply::TableMap tables(catalog, std::move(scope));
  ASSIGN_OR_RETURN(auto others, connect_others());
  apply::Applier applier(standby, tables, applier_options(), from, others);
  const std::stop_callback cancel_on_stop(stop, [&] { applier.cancel(); });
  RETURN_IF_ERROR(applier.start());
  // Before anything is read: what the keeper removes is measured by it.
  status_.on_session(from);
  RETURN_IF_ERROR(feed_->seek(from));
  spdlog::info("event=applying from={}", to_string(from));
  {
    const std::lock_guard lock(sequences_mutex_);
    if (!sequences_) sequences_ = std::make_unique<SequenceKeeper>(options_, caller(), status_);
  }
  auto ended = apply_changes(applier, stop);
  refusal_ = applier.refusal();
  if (ended.ok() || !tables.missing() || !options_.copy.create_schema) return ended;
  refusal_.reset();
  return adopt({*tables.missing()}, stop);
}

// Brings the tables whose copy is older than what is applied to `until`, under a progress row of
// their own.
Result<void> Receiver::replay(apply::StandbySession& standby, MasterLsn until,
                              const std::stop_token& stop) {
  auto options = applier_options();
  options.subscription = sync_.replay_subscription();
  options.until = until;
  ASSIGN_OR_RETURN(auto row, apply::load_progress(standby, options.subscription));
  // Ours never leaves these bounds: one that does is of another life, or of an earlier copy.
  if (row && !(proto::same_identity(row->identity, identity_) &&
               sync_.replay_from() <= row->applied_lsn && row->applied_lsn <= until)) {
    RETURN_IF_ERROR(apply::release_copied_tables(standby, options_.name, {}, options.subscription));
    row.reset();
  }
  const auto from = row ? row->applied_lsn : sync_.replay_from();
  if (!row)
    RETURN_IF_ERROR(apply::create_progress(standby, options.subscription, {identity_, from}));
  spdlog::info("event=replaying from={} until={}", to_string(from), to_string(until));
  if (from < until) {
    ASSIGN_OR_RETURN(auto patterns, TablePatterns::parse(options_.tables));
    apply::StandbyCatalog catalog(options_.standby);
    apply::TableMap tables(catalog, sync_.replay_scope(std::move(patterns)));
    // Its own: an applier's connection is of no other use afterwards.
    ASSIGN_OR_RETURN(auto session, connect_another());
    apply::Applier applier(session, tables, std::move(options), from);
    const std::stop_callback cancel_on_stop(stop, [&] { applier.cancel(); });
    RETURN_IF_ERROR(applier.start());
    RETURN_IF_ERROR(feed_->seek(from));
    const std::stop_callback wake_on_stop(stop, [this] { feed_->wake(); });
    MasterLsn read = from;
    while (read < until || !applier.settled()) {
      if (stop.stop_requested()) return stopping();
      auto next = apply_next(applier, read < until);
      refusal_ = applier.refusal();
      if (!next.ok()) return next.error();
      read = std::max(read, *next);
    }
  }
  return sync_.end_replay(standby);
}

pb::Caller Receiver::caller() const {
  pb::Caller caller;
  caller.set_stream(options_.stream);
  caller.set_receiver(options_.name);
  caller.set_instance(checkpoint_->instance());
  if (!identity_.stream().empty()) *caller.mutable_identity() = identity_;
  return caller;
}

Result<apply::Resume> Receiver::find_resume(apply::StandbySession& standby) {
  ASSIGN_OR_RETURN(const auto row, apply::load_progress(standby, options_.name));
  const auto checkpoint =
      found_ ? std::optional(found_->progress) : std::optional<apply::Progress>{};
  ASSIGN_OR_RETURN(auto resume, apply::reconcile(row, checkpoint));
  if (row) {
    if (const auto spooled = spool_->identity())
      RETURN_IF_ERROR(apply::check_spool_identity(row->identity, *spooled));
    identity_ = row->identity;
  }
  if (resume.copies) {
    ASSIGN_OR_RETURN(resume.from, sync_.first_position(standby));
  }
  return resume;
}

// Until the spool holds what follows the standby's position, or the sender refuses to send it.
Result<void> Receiver::continue_from(MasterLsn from, const std::stop_token& stop) {
  const auto covers = [&] { return spool_->identity() && spool_->begin_lsn() <= from; };
  if (!intake_->started()) {
    intake_->start(identity_, covers() ? MasterLsn{} : from);
  } else if (!covers()) {
    spdlog::warn("event=standby_behind_spool standby={} spool={} action=\"asking the sender\"",
                 to_string(from), to_string(spool_->begin_lsn()));
    intake_->begin_anew(from);
  }
  while (!covers() && !stop.stop_requested()) {
    RETURN_IF_ERROR(intake_->failure());
    interruptible_sleep(kCoverInterval, stop);
  }
  return check_against_master(from, stop);
}

// A standby may be ahead of the spool, whose tail a crash takes along, but not of the master:
// transactions of that one would be passed over as if they had been applied.
Result<void> Receiver::check_against_master(MasterLsn applied, const std::stop_token& stop) {
  std::optional<Clock::time_point> told_at;
  bool asked = false;
  while (!stop.stop_requested()) {
    const auto failure = intake_->failure();
    if (!failure.ok() && (asked || applied <= spool_->end_lsn())) return failure.error();
    // An old spool, restored perhaps, may ask for what the slot has no more: the row judges (I4).
    if (!failure.ok()) {
      spdlog::warn(
          "event=spool_behind_standby spool={} standby={} reason=\"{}\" action=\"asking "
          "the sender from there\"",
          to_string(spool_->end_lsn()), to_string(applied), one_line(failure.error()));
      intake_->start(identity_, applied);
      asked = true;
    }
    const auto wal_lsn = status_.wal_lsn();
    if (applied <= spool_->end_lsn() || applied <= wal_lsn) break;
    if (wal_lsn.valid() && !told_at) told_at = Clock::now();
    if (told_at && Clock::now() - *told_at > kWalPatience) {
      return Error{
          ErrorCode::kState,
          fmt::format("receiver {} has changes up to {}, the master's WAL ends at {}: it is an "
                      "older state of the master",
                      options_.name, to_string(applied), to_string(wal_lsn)),
          "find out which of the two is right; to follow this master begin the receiver anew"};
    }
    interruptible_sleep(kCoverInterval, stop);
  }
  return {};
}

// What the status page is asked to have done. From its threads.
Result<std::string> Receiver::control(const ControlRequest& request) {
  if (request.command == "forget")
    return Error{ErrorCode::kState, "this is a receiver, which forgets nobody",
                 "give the sender's --http"};
  if (request.command == "sequences") {
    const std::lock_guard lock(sequences_mutex_);
    if (!sequences_)
      return Error{ErrorCode::kState, "nothing is applied yet", "ask again later",
                   Recovery::kRetry};
    ASSIGN_OR_RETURN(const auto set, sequences_->sync());
    return fmt::format("{} sequences are where the master's were, {} of them moved",
                       set.equal + set.set, set.set);
  }
  ASSIGN_OR_RETURN(const auto table, parse_table_name(request.argument));
  if (request.command == "resync_state")
    return std::string(sync_.on_its_way(table) ? "on_its_way" : "follows");
  RETURN_IF_ERROR(sync_.request_copy({table}, status_.applied()));
  return fmt::format("{} is being copied", proto::qualified_name(table.schema(), table.name()));
}

Result<void> Receiver::apply_changes(apply::Applier& applier, const std::stop_token& stop) {
  const std::stop_callback wake_on_stop(stop, [this] { feed_->wake(); });
  while (!stop.stop_requested() && !sync_.wants_restart() && !is_past_one(applier.applied())) {
    RETURN_IF_ERROR(apply_next(applier, true));
    const auto& counts = applier.counts();
    status_.on_applied({applier.applied(), applier.durable(), counts.transactions, counts.rows,
                        counts.conflicts, counts.commit_time_usec});
  }
  return {};
}

// Answers up to where everything was read with it; 0: nothing new was.
Result<MasterLsn> Receiver::apply_next(apply::Applier& applier, bool more_may_follow) {
  RETURN_IF_ERROR(intake_->failure());
  ASSIGN_OR_RETURN(
      const auto event,
      feed_->next(Clock::now() + (applier.needs_tick() ? kTickInterval : kQuietInterval)));
  if (std::holds_alternative<transport::FeedAbandoned>(event)) {
    return Error{ErrorCode::kNetwork,
                 "the connection broke inside a transaction, which comes again whole",
                 {},
                 Recovery::kRetry};
  }
  MasterLsn read;
  if (const auto* batch = std::get_if<transport::SpoolBatch>(&event)) {
    RETURN_IF_ERROR(applier.take(batch->changes, more_may_follow && feed_->more_waiting()));
    read = batch->end_lsn;
  }
  RETURN_IF_ERROR(applier.tick());
  return read;
}

}  // namespace bitacora::engine
