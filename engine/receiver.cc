#include "engine/receiver.h"

#include <thread>
#include <utility>

#include <fmt/format.h>

#include "apply/progress.h"
#include "apply/row_statement.h"
#include "base/backoff.h"
#include "base/interruptible_sleep.h"
#include "base/log.h"
#include "engine/connect_hint.h"
#include "engine/status_server.h"
#include "proto/relation.h"

namespace bitacora::engine {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr std::size_t kQueueBytesMax = 32u << 20;  // received and not yet applied, decompressed
constexpr std::chrono::seconds kAckInterval{1};
constexpr std::chrono::seconds kCheckpointInterval{1};
constexpr std::chrono::seconds kStartPatience{
    15};  // a killed predecessor's session, a server that is starting up
constexpr milliseconds kTickInterval{20};
constexpr milliseconds kQuietInterval{200};

bool is_starting_up(const Error& error) {
  return error.message.find("starting up") != std::string::npos ||
         error.message.find("accepting connections") != std::string::npos;
}

}  // namespace

Receiver::Receiver(ReceiverOptions options)
    : options_(std::move(options)), status_(options_.name) {}

Result<void> Receiver::run(std::stop_token stop) {
  ASSIGN_OR_RETURN(checkpoint_, apply::Checkpoint::open(options_.data_dir));
  ASSIGN_OR_RETURN(const auto page, StatusServer::start(options_.common.http,
                                                        [this] { return status_.document(); }));
  Backoff backoff;
  std::string reported;
  while (!stop.stop_requested()) {
    const auto began = Clock::now();
    const auto ended = run_session(stop);
    status_.on_session_end();
    if (stop.stop_requested()) break;
    const Error& error = ended.error();
    const auto line = one_line(error);
    status_.on_error(redacted(line));
    if (!error.heals()) {
      status_.on_stopped();
      return error;
    }
    if (Clock::now() - began > std::chrono::seconds(1)) {
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

// At the start a standby that is not there is an error for a person; later it is waited for.
Result<apply::StandbySession> Receiver::connect_standby(std::stop_token stop) {
  const auto deadline = Clock::now() + kStartPatience;
  while (true) {
    auto session = apply::StandbySession::connect(options_.standby, "bitacora_" + options_.name);
    if (session.ok()) {
      ASSIGN_OR_RETURN(const bool locked, session->try_lock(options_.name));
      if (locked) return session;
    } else if (was_connected_ || !is_starting_up(session.error())) {
      Error error = with_connect_hint(session.error(), "--standby");
      if (!was_connected_) error.recovery = Recovery::kStop;
      return error;
    }
    if (Clock::now() >= deadline || stop.stop_requested()) break;
    interruptible_sleep(milliseconds(100), stop);
  }
  return Error{ErrorCode::kConfiguration,
               fmt::format("another receiver named {} applies to this standby", options_.name),
               "give this receiver another --name, or stop the other one",
               was_connected_ ? Recovery::kRetry : Recovery::kStop};
}

Result<void> Receiver::run_session(std::stop_token stop) {
  ASSIGN_OR_RETURN(auto standby, connect_standby(stop));
  // A statement that waits for a lock must not hold a stop back.
  const std::stop_callback cancel_on_stop(stop, [&] { standby.cancel(); });
  return run_session(standby, stop);
}

Result<void> Receiver::run_session(apply::StandbySession& standby, std::stop_token stop) {
  RETURN_IF_ERROR(apply::ensure_progress_table(standby));
  ASSIGN_OR_RETURN(auto resume, find_resume(standby));
  ASSIGN_OR_RETURN(const auto sender, transport::SenderConnection::open(
                                          options_.sender, options_.tls, hello(resume), stop));
  const pb::Welcome& welcome = sender->welcome();
  if (!resume.first_start) RETURN_IF_ERROR(apply::check_identity(identity_, welcome.identity()));
  identity_ = welcome.identity();

  ASSIGN_OR_RETURN(auto patterns, TablePatterns::parse(options_.tables));
  apply::StandbyCatalog catalog(options_.standby);
  apply::TableMap tables(catalog, std::move(patterns));
  RETURN_IF_ERROR(preflight(standby, tables, welcome));
  if (resume.first_start) {
    resume.from = MasterLsn{welcome.start_lsn()};
    RETURN_IF_ERROR(apply::create_progress(standby, options_.name, {identity_, resume.from}));
  }
  apply::Applier applier(standby, tables, {options_.name, options_.standby}, resume.from);
  RETURN_IF_ERROR(applier.start());
  spdlog::info("event=receiving sender={} stream={} from={}", options_.sender, options_.stream,
               to_string(resume.from));
  was_connected_ = true;
  status_.on_session(resume.from);
  auto ended = stream(*sender, applier, stop);
  const auto saved = save_checkpoint(applier);
  return ended.ok() ? saved : ended;
}

Result<apply::Resume> Receiver::find_resume(apply::StandbySession& standby) {
  ASSIGN_OR_RETURN(const auto row, apply::load_progress(standby, options_.name));
  ASSIGN_OR_RETURN(const auto checkpoint, checkpoint_->load());
  ASSIGN_OR_RETURN(const auto resume, apply::reconcile(row, checkpoint));
  if (row) identity_ = row->identity;
  if (resume.first_start && !options_.no_copy) {
    return Error{
        ErrorCode::kConfiguration,
        "this receiver has never applied anything and there is no initial copy yet",
        "make the tables on the standby equal to the master's, then start it with --no-copy"};
  }
  return resume;
}

pb::Hello Receiver::hello(const apply::Resume& resume) const {
  pb::Hello hello;
  hello.set_wire_version(proto::kWireVersion);
  hello.set_stream(options_.stream);
  hello.set_receiver(options_.name);
  hello.set_instance(checkpoint_->instance());
  if (!resume.first_start) *hello.mutable_identity() = identity_;
  hello.set_resume_lsn(resume.from.value);
  return hello;
}

// Every published table we take has a fitting one on the standby: known before the first change is
// applied.
Result<void> Receiver::preflight(apply::StandbySession& standby, apply::TableMap& tables,
                                 const pb::Welcome& welcome) {
  for (const auto& type : welcome.types()) tables.describe(type);
  for (const auto& relation : welcome.relations()) tables.describe(relation);
  if (std::exchange(preflighted_, true)) return {};
  for (const auto& relation : welcome.relations()) {
    ASSIGN_OR_RETURN(const auto* table, tables.table(relation.oid()));
    if (!table->taken) continue;
    const auto insert = apply::build_row_statement(
        table->plan, {apply::RowAction::kInsert, false, false, table->text_columns});
    const auto accepted = standby.validate(insert.sql, insert.types);
    if (accepted.ok()) continue;
    preflighted_ = false;
    Error error = accepted.error();
    error.message = fmt::format("standby table {} does not take what the master sends: {}",
                                proto::qualified_name(relation), error.message);
    error.hint =
        "give the columns types that the master's values can be cast to, or leave the table out "
        "with --tables";
    return error;
  }
  return {};
}

Result<void> Receiver::stream(transport::SenderConnection& sender, apply::Applier& applier,
                              std::stop_token stop) {
  Queue queue(kQueueBytesMax);
  Result<void> network;  // written by the thread below, read after it ended
  std::jthread reading([&] {
    network = take_in(sender, queue);
    queue.close();
  });
  std::jthread acknowledging([&](const std::stop_token& ended) { acknowledge(sender, ended); });
  const std::stop_callback end_on_stop(stop, [&] { queue.close(); });
  auto applied = apply_from(queue, applier, stop);
  acknowledging.request_stop();
  status_.wake();
  queue.close();
  acknowledging.join();
  sender.cancel();
  reading.join();
  return applied.ok() ? network : applied;
}

Result<void> Receiver::take_in(transport::SenderConnection& sender, Queue& queue) {
  while (true) {
    ASSIGN_OR_RETURN(auto event, sender.next());
    if (const auto* heartbeat = std::get_if<pb::Heartbeat>(&event)) {
      status_.on_heartbeat(*heartbeat);
      continue;
    }
    auto& batch = std::get<transport::ReceivedBatch>(event);
    const auto bytes = batch.bytes;
    const auto sequence = batch.sequence;
    const auto end_lsn = batch.end_lsn;
    Incoming incoming{std::move(batch.changes)};
    Pushed pushed = Pushed::kTimedOut;
    while (pushed == Pushed::kTimedOut)
      pushed = queue.push(incoming, bytes, Clock::now() + kAckInterval);
    if (pushed == Pushed::kClosed) return {};
    status_.on_received(sequence, end_lsn);
  }
}

// At once when something moved, else every second: the sender takes silence for death.
void Receiver::acknowledge(transport::SenderConnection& sender, const std::stop_token& stop) {
  ReceiverPositions sent;
  while (!stop.stop_requested()) {
    sent = status_.wait_for_change(sent, Clock::now() + kAckInterval);
    pb::Ack ack;
    ack.set_sequence(sent.sequence);
    ack.set_received_lsn(sent.received.value);
    ack.set_flushed_lsn(sent.flushed.value);
    ack.set_applied_lsn(sent.applied.value);
    if (!sender.acknowledge(ack)) return;
  }
}

Result<void> Receiver::apply_from(Queue& queue, apply::Applier& applier,
                                  const std::stop_token& stop) {
  auto checkpoint_due = Clock::now() + kCheckpointInterval;
  while (!stop.stop_requested()) {
    const auto incoming =
        queue.pop(Clock::now() + (applier.needs_tick() ? kTickInterval : kQuietInterval));
    if (incoming) {
      RETURN_IF_ERROR(applier.take(incoming->changes, !queue.empty()));
    } else if (queue.closed()) {
      return {};
    }
    RETURN_IF_ERROR(applier.tick());
    const auto& counts = applier.counts();
    status_.on_applied({applier.applied(), applier.durable(), counts.transactions, counts.rows,
                        counts.commit_time_usec});
    if (Clock::now() >= checkpoint_due) {
      RETURN_IF_ERROR(save_checkpoint(applier));
      checkpoint_due = Clock::now() + kCheckpointInterval;
    }
  }
  return {};
}

Result<void> Receiver::save_checkpoint(const apply::Applier& applier) {
  ASSIGN_OR_RETURN(const auto saved, checkpoint_->load());
  if (saved && saved->applied_lsn == applier.durable()) return {};
  return checkpoint_->save({identity_, applier.durable()});
}

}  // namespace bitacora::engine
