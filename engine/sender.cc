#include "engine/sender.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "base/backoff.h"
#include "base/interruptible_sleep.h"
#include "base/log.h"
#include "engine/status_server.h"
#include "proto/relation.h"
#include "wal/published_tables.h"
#include "wal/replication_slot.h"

namespace bitacora::engine {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kQueueBytesMax = 16u
                                       << 20;  // per receiver, serialized and not yet compressed
constexpr std::chrono::seconds kMonitorInterval{1};
constexpr int kNoteEvery = 10;  // monitor rounds between two writes of the state file

// So that --listen 0.0.0.0 and an error in a certificate are found before anything is made on the
// master.
Error starting() { return {ErrorCode::kNetwork, "the sender is starting", {}, Recovery::kRetry}; }

}  // namespace

Sender::Sender(SenderOptions options)
    : options_(std::move(options)),
      hub_(kQueueBytesMax, [this] { wake_up_.signal(); }),
      query_session_(options_.master) {}

Result<void> Sender::run(std::stop_token stop) {
  ASSIGN_OR_RETURN(state_, SenderStateFile::open(options_.state_dir));
  // Ports first: one that is taken must not leave a slot behind.
  transport::ReplicationService service(
      hub_, [this](const pb::Hello& hello) { return admit(hello); },
      [this] { return heartbeat(); });
  ASSIGN_OR_RETURN(const auto page,
                   StatusServer::start(options_.common.http, [this] { return status_document(); }));
  ASSIGN_OR_RETURN(const auto server,
                   transport::ReplicationServer::start(options_.listen, options_.tls, service));

  wal::MasterSession lock_session(options_.master);
  auto master = set_up_master(lock_session, options_, *state_, stop);
  if (!master.ok()) return stop.stop_requested() ? Result<void>{} : master.error();
  master_ = std::move(master).value();
  for (const auto& [receiver, flushed] : state_->state()->receivers)
    hub_.register_receiver(receiver, flushed);
  ready_ = true;
  spdlog::info("event=sender_ready stream={} listen={} http={}", options_.stream, options_.listen,
               options_.common.http);

  const std::stop_callback wake_on_stop(stop, [this] { wake_up_.signal(); });
  std::jthread monitoring([this](const std::stop_token& ended) { monitor(ended); });
  auto result = read_until_stop(lock_session, stop);
  monitoring.request_stop();
  monitoring.join();
  hub_.disconnect_all();
  note_receivers();
  return result;
}

Result<void> Sender::read_until_stop(wal::MasterSession& lock_session, std::stop_token stop) {
  wal::LiveReader reader(
      {options_.master, options_.slot(), options_.publication(), "bitacora_" + options_.stream},
      *this, wake_up_);
  Backoff backoff;
  bool lost = false;
  while (!stop.stop_requested()) {
    const auto start = hub_.activate();
    if (!start) {
      hub_.wait_for_receivers(Clock::now() + std::chrono::milliseconds(200));
      continue;
    }
    const auto began = Clock::now();
    const auto ended = read_once(reader, lock_session, *start, stop);
    if (reader.mid_transaction()) hub_.disconnect_all();
    if (ended.ok()) continue;  // a receiver joined, the last one left, or stop
    if (!ended.error().heals()) return ended.error();
    if (Clock::now() - began > std::chrono::seconds(1)) {
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

Result<void> Sender::read_once(wal::LiveReader& reader, wal::MasterSession& lock_session,
                               MasterLsn start_lsn, std::stop_token stop) {
  ASSIGN_OR_RETURN(const bool locked, lock_session.try_lock_slot(options_.slot()));
  if (!locked) {
    return Error{ErrorCode::kMaster,
                 "another sender took the slot while the master was away",
                 {},
                 Recovery::kRetry};
  }
  ASSIGN_OR_RETURN(const auto confirmed,
                   confirmed_position(lock_session, options_.slot(), state_->state()->slot_from));
  // START_REPLICATION would move the start forward to it without a word.
  if (start_lsn < confirmed) {
    return Error{
        ErrorCode::kState,
        fmt::format("slot {} is confirmed up to {}, but a receiver still needs changes from {}",
                    options_.slot(), to_string(confirmed), to_string(start_lsn)),
        "somebody else advanced the slot: make the tables equal again and begin anew (bitacora "
        "drop)"};
  }
  ASSIGN_OR_RETURN(const bool binary,
                   wal::binary_can_be_sent(lock_session, options_.publication()));
  reader.ask_for_binary(binary);
  auto ended = reader.run(start_lsn, std::move(stop));
  if (ended.ok() || ended.error().heals()) return ended;
  // Between the look above and the start the slot may have gone: then that is what to tell.
  const auto slot = confirmed_position(lock_session, options_.slot(), state_->state()->slot_from);
  return slot.ok() || slot.error().heals() ? ended : slot.error();
}

bool Sender::offer(const proto::SharedBatch& batch, Clock::time_point deadline) {
  if (!hub_.offer(batch, deadline)) return false;
  if (batch->end_lsn.valid()) read_lsn_ = batch->end_lsn.value;
  return true;
}

wal::StandbyStatus Sender::status() {
  const std::lock_guard lock(feedback_mutex_);
  const auto slowest = hub_.slowest();
  if (!slowest) return {};
  CHECK(slowest->flushed >= reported_flushed_ || !slowest->flushed.valid());
  reported_flushed_ = slowest->flushed;
  return {std::max(slowest->received, slowest->flushed), slowest->flushed, slowest->applied};
}

bool Sender::wants_restart() { return hub_.wants_restart(); }

void Sender::on_master_position(MasterLsn wal_end, std::int64_t master_clock_usec) {
  wal_lsn_ = std::max(wal_lsn_.load(), wal_end.value);
  master_clock_usec_ = master_clock_usec;
}

Result<transport::Admission> Sender::admit(const pb::Hello& hello) {
  if (!ready_) return starting();
  if (hello.stream() != options_.stream) {
    return Error{
        ErrorCode::kConfiguration,
        fmt::format("this sender ships stream {}, not {}", options_.stream, hello.stream()),
        "give the receiver the sender's --stream"};
  }
  if (hello.has_identity() && !proto::same_identity(hello.identity(), master_.identity)) {
    return Error{
        ErrorCode::kState,
        fmt::format("the receiver follows ({}), this sender ships ({})",
                    proto::describe(hello.identity()), proto::describe(master_.identity)),
        "point --sender at the right one, or give this pair its own --name and --data-dir"};
  }
  const std::lock_guard lock(query_mutex_);
  ASSIGN_OR_RETURN(const auto start, starting_point(hello));
  ASSIGN_OR_RETURN(const auto tables,
                   wal::published_tables(query_session_, options_.publication()));
  transport::Admission admission;
  ASSIGN_OR_RETURN(admission.subscription, hub_.join(hello.receiver(), hello.instance(), start));
  pb::Welcome& welcome = admission.welcome;
  welcome.set_wire_version(proto::kWireVersion);
  *welcome.mutable_identity() = master_.identity;
  welcome.set_start_lsn(start.value);
  welcome.set_server_version(static_cast<std::uint32_t>(master_.server_version));
  welcome.mutable_relations()->Assign(tables.relations.begin(), tables.relations.end());
  welcome.mutable_types()->Assign(tables.types.begin(), tables.types.end());
  return admission;
}

// Where the receiver continues; kState names the exact range that nobody has any more.
Result<MasterLsn> Sender::starting_point(const pb::Hello& hello) {
  const auto slot_from = [&] {
    const std::lock_guard lock(state_mutex_);
    return state_->state()->slot_from;
  }();
  ASSIGN_OR_RETURN(const auto confirmed,
                   confirmed_position(query_session_, options_.slot(), slot_from));
  const MasterLsn resume{hello.resume_lsn()};
  if (!resume.valid()) return register_at_slot(hello.receiver(), confirmed);
  if (resume < confirmed) {
    return Error{ErrorCode::kState,
                 fmt::format("receiver {} needs changes from {}, the slot has them from {} on: the "
                             "gap {} to {} is lost",
                             hello.receiver(), to_string(resume), to_string(confirmed),
                             to_string(resume), to_string(confirmed)),
                 "make the tables equal again and begin this receiver anew, with an empty "
                 "--data-dir and its row of "
                 "bitacora.progress deleted"};
  }
  ASSIGN_OR_RETURN(const auto wal_end, query_session_.current_wal_lsn());
  if (resume > wal_end) {
    return Error{
        ErrorCode::kState,
        fmt::format("receiver {} has changes up to {}, the master's WAL ends at {}: it is an older "
                    "state of the master",
                    hello.receiver(), to_string(resume), to_string(wal_end)),
        "find out which of the two is right; to follow this master begin the receiver anew"};
  }
  ASSIGN_OR_RETURN(const auto registered, register_at_slot(hello.receiver(), resume));
  return std::max(registered, resume);
}

// From here on the slot waits for this receiver. Positions the master was told before that are gone
// for it.
Result<MasterLsn> Sender::register_at_slot(const std::string& receiver, MasterLsn confirmed) {
  MasterLsn from = confirmed;
  {
    const std::lock_guard lock(feedback_mutex_);
    if (hub_.is_registered(receiver)) return from;
    from = std::max(from, reported_flushed_);
    hub_.register_receiver(receiver, from);
  }
  const std::lock_guard lock(state_mutex_);
  SenderState state = *state_->state();
  state.receivers.insert_or_assign(receiver, from);
  RETURN_IF_ERROR(state_->save(state));
  return from;
}

pb::Heartbeat Sender::heartbeat() const {
  pb::Heartbeat heartbeat;
  heartbeat.set_wal_lsn(wal_lsn_);
  heartbeat.set_master_clock_usec(master_clock_usec_);
  return heartbeat;
}

void Sender::monitor(const std::stop_token& stop) {
  for (int round = 1; !stop.stop_requested(); ++round) {
    observe_slot();
    if (round % kNoteEvery == 0) note_receivers();
    interruptible_sleep(kMonitorInterval, stop);
  }
}

void Sender::observe_slot() {
  const std::lock_guard lock(query_mutex_);
  const auto slot = wal::find_slot(query_session_, options_.slot());
  if (!slot.ok() || !*slot) return;  // the reader reports it
  confirmed_lsn_ = (*slot)->confirmed_flush_lsn.value;
  retained_bytes_ = (*slot)->retained_bytes;
  const auto wal_end = query_session_.current_wal_lsn();
  if (wal_end.ok()) wal_lsn_ = std::max(wal_lsn_.load(), wal_end->value);
}

void Sender::note_receivers() {
  const std::lock_guard lock(state_mutex_);
  SenderState state = *state_->state();
  for (const auto& receiver : hub_.receivers())
    state.receivers.insert_or_assign(receiver.receiver, receiver.positions.flushed);
  if (state.receivers == state_->state()->receivers) return;
  const auto saved = state_->save(state);
  if (!saved.ok()) spdlog::warn("event=state_not_saved reason=\"{}\"", one_line(saved.error()));
}

std::string Sender::status_document() const {
  const auto lsn = [](std::uint64_t value) {
    return value == 0 ? nlohmann::ordered_json() : nlohmann::ordered_json(format_lsn(value));
  };
  nlohmann::ordered_json receivers = nlohmann::ordered_json::array();
  for (const auto& receiver : hub_.receivers()) {
    receivers.push_back({{"name", receiver.receiver},
                         {"connected", receiver.connected},
                         {"received_lsn", lsn(receiver.positions.received.value)},
                         {"flushed_lsn", lsn(receiver.positions.flushed.value)},
                         {"applied_lsn", lsn(receiver.positions.applied.value)},
                         {"queued_bytes", receiver.queued_bytes}});
  }
  const nlohmann::ordered_json document = {{"role", "sender"},
                                           {"stream", options_.stream},
                                           {"slot", options_.slot()},
                                           {"reader", "live"},
                                           {"wal_lsn", lsn(wal_lsn_)},
                                           {"read_lsn", lsn(read_lsn_)},
                                           {"confirmed_lsn", lsn(confirmed_lsn_)},
                                           {"retained_bytes", retained_bytes_.load()},
                                           {"receivers", receivers}};
  return document.dump();
}

}  // namespace bitacora::engine
