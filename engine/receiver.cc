#include "engine/receiver.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "apply/conflict_log.h"
#include "apply/progress.h"
#include "apply/row_statement.h"
#include "base/backoff.h"
#include "base/file_system.h"
#include "base/interruptible_sleep.h"
#include "base/log.h"
#include "engine/connect_hint.h"
#include "engine/status_server.h"
#include "proto/relation.h"
#include "transport/posix_storage.h"

namespace bitacora::engine {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr std::size_t kFeedBytesMax = 32u << 20;  // received and not yet applied, in memory
constexpr std::chrono::seconds kStartPatience{
    15};  // a killed predecessor's session, a server that is starting up
constexpr std::chrono::seconds kWelcomePatience{5};
constexpr std::chrono::seconds kWalPatience{5};     // several of the sender's heartbeats
constexpr std::chrono::minutes kExactTableTime{1};  // after the fast path failed at a table
constexpr milliseconds kTickInterval{20};
constexpr milliseconds kQuietInterval{200};
constexpr milliseconds kCoverInterval{100};

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
    : options_(std::move(options)), status_(options_.name) {}

Result<void> Receiver::run(std::stop_token stop) {
  RETURN_IF_ERROR(open());
  ASSIGN_OR_RETURN(const auto page, StatusServer::start(options_.common.http,
                                                        [this] { return status_.document(); }));
  feed_.emplace(*spool_, kFeedBytesMax);
  keeper_.emplace(*spool_, *checkpoint_, status_);
  intake_.emplace(options_, checkpoint_->instance(), *spool_, *feed_, *keeper_, status_);
  // The master's WAL need not wait until the standby is there.
  if (has_state_ && spool_->identity()) intake_->start(identity_, {});
  const auto ended = run_sessions(stop);
  intake_.reset();
  keeper_.reset();
  return ended;
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
  has_state_ = found_.has_value();
  if (has_state_) identity_ = found_->progress.identity;
  return {};
}

Result<void> Receiver::run_sessions(const std::stop_token& stop) {
  Backoff backoff;
  std::string reported;
  while (!stop.stop_requested()) {
    const auto ended = run_session(stop);
    const bool had_begun = status_.on_session_end();
    if (stop.stop_requested()) break;
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

// At the first start a standby that is not there is an error for a person; later it is waited for.
Result<apply::StandbySession> Receiver::connect_standby(std::stop_token stop) {
  const auto deadline = Clock::now() + kStartPatience;
  while (true) {
    auto session = apply::StandbySession::connect(options_.standby, "bitacora_" + options_.name);
    if (session.ok()) {
      ASSIGN_OR_RETURN(const bool locked, session->try_lock(options_.name));
      if (locked) return session;
    } else if (has_state_ || !is_starting_up(session.error())) {
      Error error = with_connect_hint(session.error(), "--standby");
      if (!has_state_) error.recovery = Recovery::kStop;
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
    ASSIGN_OR_RETURN(auto session,
                     apply::StandbySession::connect(options_.standby, "bitacora_" + options_.name));
    RETURN_IF_ERROR(session.join(options_.name));
    others.push_back(std::move(session));
  }
  return others;
}

Result<void> Receiver::run_session(std::stop_token stop) {
  ASSIGN_OR_RETURN(auto standby, connect_standby(stop));
  // A statement that waits for a lock must not hold a stop back.
  const std::stop_callback cancel_on_stop(stop, [&] { standby.cancel(); });
  return run_session(standby, stop);
}

Result<void> Receiver::run_session(apply::StandbySession& standby, const std::stop_token& stop) {
  ASSIGN_OR_RETURN(auto resume, find_resume(standby));
  if (resume.first_start) {
    RETURN_IF_ERROR(begin_first(standby, resume, stop));
  } else {
    RETURN_IF_ERROR(apply::make_progress_durable(standby, options_.name));
    status_.set_durable(resume.from);  // nothing after it is trimmed from here on
    RETURN_IF_ERROR(continue_from(resume.from, stop));
    RETURN_IF_ERROR(look_at_tables(standby, stop));
  }
  keeper_->follow(identity_);
  has_state_ = true;

  if (options_.conflicts.resolves_any()) RETURN_IF_ERROR(apply::ensure_conflict_table(standby));
  ASSIGN_OR_RETURN(auto patterns, TablePatterns::parse(options_.tables));
  apply::StandbyCatalog catalog(options_.standby);
  apply::TableMap tables(catalog, std::move(patterns));
  ASSIGN_OR_RETURN(auto others, connect_others());
  apply::Applier applier(standby, tables, applier_options(), resume.from, others);
  const std::stop_callback cancel_on_stop(stop, [&] { applier.cancel(); });
  RETURN_IF_ERROR(applier.start());
  // Before anything is read: what the keeper removes is measured by it.
  status_.on_session(resume.from);
  RETURN_IF_ERROR(feed_->seek(resume.from));
  spdlog::info("event=applying from={}", to_string(resume.from));
  const auto ended = apply_changes(applier, stop);
  refusal_ = applier.refusal();
  return ended;
}

Result<apply::Resume> Receiver::find_resume(apply::StandbySession& standby) {
  ASSIGN_OR_RETURN(const auto row, apply::load_progress(standby, options_.name));
  const auto checkpoint =
      found_ ? std::optional(found_->progress) : std::optional<apply::Progress>{};
  ASSIGN_OR_RETURN(const auto resume, apply::reconcile(row, checkpoint));
  if (row) {
    if (const auto spooled = spool_->identity())
      RETURN_IF_ERROR(apply::check_spool_identity(row->identity, *spooled));
    identity_ = row->identity;
  }
  if (resume.first_start && !options_.no_copy) {
    return Error{
        ErrorCode::kConfiguration,
        "this receiver has never applied anything and there is no initial copy yet",
        "make the tables on the standby equal to the master's, then start it with --no-copy"};
  }
  return resume;
}

// Nothing is kept here or there before everything fits. Once there is a row, or there may be one,
// the sender must not forget us, whatever happens: the row asks for what comes after it.
Result<void> Receiver::begin_first(apply::StandbySession& standby, apply::Resume& resume,
                                   const std::stop_token& stop) {
  if (!intake_->started()) intake_->start_first();
  ASSIGN_OR_RETURN(const auto welcome, intake_->welcome(Clock::time_point::max(), stop));
  resume.from = MasterLsn{welcome.start_lsn()};
  identity_ = welcome.identity();
  auto begun = preflight(standby, welcome);
  bool may_have_row = false;
  if (begun.ok()) {
    begun = apply::create_progress(standby, options_.name, {identity_, resume.from});
    may_have_row = begun.ok() || begun.error().heals();
  }
  if (!may_have_row) {
    intake_->refuse();
    return begun;
  }
  found_ = apply::CheckpointState{{identity_, resume.from}, {}};
  intake_->accept();
  RETURN_IF_ERROR(begun);
  // Else a crash of the standby could take the row, but not our checkpoint, which says it was
  // there.
  return apply::make_progress_durable(standby, options_.name);
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

// At a start, when the sender is there: a table that does not fit is known before its first change.
Result<void> Receiver::look_at_tables(apply::StandbySession& standby, const std::stop_token& stop) {
  if (preflighted_) return {};
  const auto welcome = intake_->welcome(Clock::now() + kWelcomePatience, stop);
  if (welcome.ok()) return preflight(standby, *welcome);
  return welcome.error().heals() ? Result<void>{} : welcome.error();
}

// Every published table we take has a fitting one on the standby.
Result<void> Receiver::preflight(apply::StandbySession& standby, const pb::Welcome& welcome) {
  ASSIGN_OR_RETURN(auto patterns, TablePatterns::parse(options_.tables));
  apply::StandbyCatalog catalog(options_.standby);
  apply::TableMap tables(catalog, std::move(patterns));
  for (const auto& type : welcome.types()) tables.describe(type);
  for (const auto& relation : welcome.relations()) tables.describe(relation);
  std::vector<std::string> fire;
  for (const auto& relation : welcome.relations()) {
    ASSIGN_OR_RETURN(const auto* table, tables.table(relation.oid()));
    if (!table->taken) continue;
    if (table->plan.fires) fire.push_back(proto::qualified_name(relation));
    const auto insert = apply::build_row_statement(
        table->plan, {apply::RowAction::kInsert, false, false, table->text_columns});
    const auto accepted = standby.validate(insert.sql, insert.types);
    if (accepted.ok()) continue;
    Error error = accepted.error();
    error.message = fmt::format("standby table {} does not take what the master sends: {}",
                                proto::qualified_name(relation), error.message);
    error.hint =
        "give the columns types that the master's values can be cast to, or leave the table out "
        "with --tables";
    return error;
  }
  if (!fire.empty()) {
    spdlog::warn(
        "event=triggers_fire tables=\"{}\" meaning=\"their ALWAYS or REPLICA triggers or rules act "
        "on the standby too, row by row\"",
        fmt::join(fire, ", "));
  }
  warn_of_idle_rules(welcome);
  preflighted_ = true;
  return {};
}

// A table may still be created; a name that is misspelt would leave its table with `error`.
void Receiver::warn_of_idle_rules(const pb::Welcome& welcome) const {
  for (const auto& rule : options_.conflicts.rules()) {
    const auto& relations = welcome.relations();
    const bool used = std::any_of(relations.begin(), relations.end(), [&](const auto& relation) {
      return rule.tables.matches(relation.schema(), relation.name());
    });
    if (used) continue;
    spdlog::warn(
        "event=conflict_rule_idle rule=\"{}\" meaning=\"no published table matches it\" "
        "hint=\"write schema.table as on the master, with * and ? as wildcards\"",
        rule.text);
  }
}

Result<void> Receiver::apply_changes(apply::Applier& applier, const std::stop_token& stop) {
  const std::stop_callback wake_on_stop(stop, [this] { feed_->wake(); });
  while (!stop.stop_requested()) {
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
    if (const auto* batch = std::get_if<transport::SpoolBatch>(&event))
      RETURN_IF_ERROR(applier.take(batch->changes, feed_->more_waiting()));
    RETURN_IF_ERROR(applier.tick());
    const auto& counts = applier.counts();
    status_.on_applied({applier.applied(), applier.durable(), counts.transactions, counts.rows,
                        counts.conflicts, counts.commit_time_usec});
  }
  return {};
}

}  // namespace bitacora::engine
