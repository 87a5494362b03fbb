#include "engine/intake.h"

#include <utility>

#include <fmt/format.h>

#include "apply/reconcile.h"
#include "base/backoff.h"
#include "base/fault_point.h"
#include "base/interruptible_sleep.h"
#include "base/log.h"

namespace bitacora::engine {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr std::chrono::seconds kAckInterval{1};
constexpr milliseconds kFullInterval{200};  // between two tries to append to a full spool

Error stopped() { return {ErrorCode::kNetwork, "the receiver is stopping", {}, Recovery::kRetry}; }

Error begins_anew() {
  return {ErrorCode::kNetwork, "the spool is to begin anew", {}, Recovery::kRetry};
}

std::int64_t now_usec() {
  return std::chrono::duration_cast<std::chrono::microseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

}  // namespace

Intake::Intake(const ReceiverOptions& options, std::string instance, transport::Spool& spool,
               transport::ChangeFeed& feed, SpoolKeeper& keeper, ReceiverStatus& status)
    : options_(options),
      instance_(std::move(instance)),
      spool_(spool),
      feed_(feed),
      keeper_(keeper),
      status_(status) {}

Intake::~Intake() {
  if (!thread_.joinable()) return;
  thread_.request_stop();
  thread_.join();
}

void Intake::start(const pb::Identity& identity, MasterLsn resume) {
  {
    const std::lock_guard lock(mutex_);
    identity_ = identity;
    resume_ = resume;
    failure_.reset();
  }
  launch();
}

void Intake::start_first() {
  {
    const std::lock_guard lock(mutex_);
    decision_ = Decision::kNone;
  }
  launch();
}

void Intake::launch() {
  thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
}

Result<pb::Welcome> Intake::welcome(Clock::time_point deadline, const std::stop_token& stop) {
  const std::stop_callback wake_on_stop(stop, [this] { changed_.notify_all(); });
  std::unique_lock lock(mutex_);
  changed_.wait_until(lock, deadline,
                      [&] { return welcome_ || failure_ || stop.stop_requested(); });
  if (failure_) return *failure_;
  if (!welcome_) return Error{ErrorCode::kNetwork, "no word from the sender", {}, Recovery::kRetry};
  return *welcome_;
}

void Intake::accept() {
  {
    const std::lock_guard lock(mutex_);
    identity_ = welcome_->identity();
    resume_ = MasterLsn{welcome_->start_lsn()};
    decision_ = Decision::kAccepted;
  }
  changed_.notify_all();
}

void Intake::refuse() {
  {
    const std::lock_guard lock(mutex_);
    decision_ = Decision::kRefused;
  }
  changed_.notify_all();
  thread_.join();
  thread_ = {};
  const std::lock_guard lock(mutex_);
  welcome_.reset();
}

void Intake::begin_anew(MasterLsn resume) {
  const std::lock_guard lock(mutex_);
  resume_ = resume;
  if (connection_ != nullptr) connection_->cancel();
}

Result<void> Intake::failure() const {
  const std::lock_guard lock(mutex_);
  return failure_ ? Result<void>(*failure_) : Result<void>{};
}

void Intake::fail(const Error& error) {
  {
    const std::lock_guard lock(mutex_);
    failure_ = error;
  }
  changed_.notify_all();
  feed_.wake();
}

void Intake::run(const std::stop_token& stop) {
  Backoff backoff;
  std::string reported;
  while (!stop.stop_requested()) {
    const auto ended = run_connection(stop);
    const bool was_connected = std::exchange(connected_, false);
    status_.on_disconnected();
    if (ended.ok() || stop.stop_requested()) return;  // refused: what was asked for is done
    if (!ended.error().heals()) return fail(ended.error());
    const auto line = one_line(ended.error());
    status_.on_error(redacted(line));
    if (was_connected) {
      backoff.reset();
      reported.clear();
    }
    if (line != std::exchange(reported, line)) {
      spdlog::warn("event=sender_lost reason=\"{}\" action=\"trying again until it is back\"",
                   line);
    }
    interruptible_sleep(backoff.next(), stop);
  }
}

transport::ReceiverSession Intake::session() const {
  const std::lock_guard lock(mutex_);
  return transport::ReceiverSession({options_.stream, options_.name, instance_, options_.tables},
                                    identity_, resume_.valid() ? resume_ : spool_.end_lsn(),
                                    spool_.timeline());
}

// One connection, to its end. Without an error only when it was refused.
Result<void> Intake::run_connection(const std::stop_token& stop) {
  RETURN_IF_ERROR(spool_.reopen());
  auto session = this->session();
  ASSIGN_OR_RETURN(const auto sender, transport::SenderConnection::open(
                                          options_.sender, options_.tls, session.hello(), stop));
  ASSIGN_OR_RETURN(const bool accepted, agree(*sender, stop));
  if (!accepted) return {};
  const auto& welcome = sender->welcome();
  ASSIGN_OR_RETURN(const auto start, session.on_welcome(welcome));
  RETURN_IF_ERROR(spool_.begin_connection(welcome.identity(), start, welcome.timeline()));
  {
    const std::lock_guard lock(mutex_);
    if (resume_ == start) resume_ = {};  // the spool ends there now
  }
  feed_.begin_connection();
  status_.on_connected(start);
  connected_ = true;
  spdlog::info("event=receiving sender={} stream={} from={}", options_.sender, options_.stream,
               to_string(start));
  return take_in(*sender, session, stop);
}

// Who the sender is, and on a first start whether its stream is taken. False: it was told that it
// is not.
Result<bool> Intake::agree(transport::SenderConnection& sender, const std::stop_token& stop) {
  const auto& identity = sender.welcome().identity();
  std::unique_lock lock(mutex_);
  if (identity_) RETURN_IF_ERROR(apply::check_identity(*identity_, identity));
  welcome_ = sender.welcome();
  changed_.notify_all();
  const std::stop_callback wake_on_stop(stop, [this] { changed_.notify_all(); });
  changed_.wait(lock, [&] { return decision_ != Decision::kNone || stop.stop_requested(); });
  const auto decision = decision_;
  lock.unlock();
  if (decision == Decision::kNone) return stopped();
  if (decision == Decision::kRefused) sender.withdraw();
  return decision == Decision::kAccepted;
}

Result<void> Intake::take_in(transport::SenderConnection& sender,
                             transport::ReceiverSession& session, const std::stop_token& stop) {
  {
    const std::lock_guard lock(mutex_);
    if (resume_.valid()) return begins_anew();  // asked for when there was nothing to cancel
    connection_ = &sender;
  }
  const std::stop_callback cancel_on_stop(stop, [&] { sender.cancel(); });
  std::jthread acknowledging([&](const std::stop_token& ended) { acknowledge(sender, ended); });
  Result<void> taken;
  while (taken.ok()) {
    auto event = sender.next();
    if (!event.ok()) {
      taken = event.error();
    } else if (const auto* heartbeat = std::get_if<pb::Heartbeat>(&*event)) {
      status_.on_heartbeat(*heartbeat);
    } else {
      fault_point("frame.received");
      taken = carry_out(session.on(std::move(*event)), stop);
    }
  }
  {
    const std::lock_guard lock(mutex_);
    connection_ = nullptr;
  }
  acknowledging.request_stop();
  status_.wake();
  sender.cancel();
  return taken;
}

Result<void> Intake::carry_out(std::vector<transport::ReceiverAction> actions,
                               const std::stop_token& stop) {
  transport::SpoolPlace place;
  for (auto& action : actions) {
    if (const auto* frame = std::get_if<transport::AppendFrame>(&action)) {
      ASSIGN_OR_RETURN(place, append(*frame, stop));
    } else if (const auto* part = std::get_if<transport::AppendStreamed>(&action)) {
      RETURN_IF_ERROR(when_room([&] { return spool_.append_streamed(part->streamed); }, stop));
    } else if (const auto* splice = std::get_if<transport::SpliceStreamed>(&action)) {
      RETURN_IF_ERROR(this->splice(splice->xid, stop));
    } else if (const auto* drop = std::get_if<transport::DropStreamed>(&action)) {
      RETURN_IF_ERROR(spool_.drop_streamed(drop->xid));
    } else if (const auto* relation = std::get_if<transport::DescribeRelation>(&action)) {
      spool_.describe(relation->relation);
    } else if (const auto* type = std::get_if<transport::DescribeType>(&action)) {
      spool_.describe(type->type);
    } else if (auto* batch = std::get_if<transport::PutBatch>(&action)) {
      feed_.put({std::move(batch->changes), batch->bytes, batch->end_lsn, place},
                batch->transaction_open);
    } else if (const auto* note = std::get_if<transport::NoteReceived>(&action)) {
      status_.on_received(note->frames, note->end_lsn);
    }
  }
  return {};
}

// The transaction may be larger than memory: apply reads it from the spool, beginning at once.
Result<void> Intake::splice(std::uint32_t xid, const std::stop_token& stop) {
  while (true) {
    ASSIGN_OR_RETURN(auto frame, spool_.take_streamed(xid));
    if (!frame) return {};
    const bool more = frame->more();
    ASSIGN_OR_RETURN(const auto place, append({std::move(*frame), true}, stop));
    if (!more) feed_.put_spooled(place);
  }
}

Result<transport::SpoolPlace> Intake::append(const transport::AppendFrame& append,
                                             const std::stop_token& stop) {
  ASSIGN_OR_RETURN(
      const auto place,
      when_room([&] { return spool_.append(append.frame, append.transaction_open, now_usec()); },
                stop));
  keeper_.on_appended();
  return place;
}

// A full spool waits for apply or for the disk; the sender's window closes meanwhile. But apply may
// wait for the spool to begin anew.
Result<transport::SpoolPlace> Intake::when_room(
    const std::function<Result<transport::Appended>()>& append, const std::stop_token& stop) {
  for (bool told = false; !stop.stop_requested();) {
    ASSIGN_OR_RETURN(const auto appended, append());
    if (appended.outcome == transport::Appended::kAppended) {
      if (told) spdlog::info("event=spool_has_room");
      return appended.place;
    }
    if (!std::exchange(told, true)) {
      spdlog::warn(
          "event=spool_full bytes={} action=\"waiting for apply to free some\" hint=\"give the "
          "file system of --data-dir more space, or raise --spool-max-size\"",
          spool_.bytes());
    }
    connection_->answer_pings(kFullInterval);
    const std::lock_guard lock(mutex_);
    if (resume_.valid()) return begins_anew();
  }
  return stopped();
}

// At once when something moved, else every second: the sender takes silence for death. The spool
// itself says what is durable: it may have begun anew further back since the status was told.
void Intake::acknowledge(transport::SenderConnection& sender, const std::stop_token& stop) {
  transport::ReceiverProgress sent;
  while (!stop.stop_requested()) {
    sent = status_.wait_for_change(sent, Clock::now() + kAckInterval);
    if (spool_.broken()) return sender.cancel();  // what was lost comes again with a new connection
    auto progress = sent;
    progress.flushed = spool_.synced_lsn();
    fault_point("ack.before_send");
    if (!sender.acknowledge(transport::acknowledgement(progress))) return;
    fault_point("ack.after_send");
  }
}

}  // namespace bitacora::engine
