#include "tests/simulator/played_sender.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/name_pattern.h"
#include "proto/relation.h"

namespace bitacora::simulator {
namespace {

using Clock = transport::SubscriptionHub::Clock;

constexpr std::size_t kQueueBytesMax = 1500;
constexpr std::size_t kBatchBytesMax = 400;

const pb::Frame* frame_of(const pb::SenderMessage& message) {
  if (message.has_frame()) return &message.frame();
  return message.has_streamed_frame() ? &message.streamed_frame().frame() : nullptr;
}

}  // namespace

PlayedSender::PlayedSender(Chance& chance, PlayedMaster& master)
    : chance_(chance), master_(master) {}

void PlayedSender::start() {
  reads_alone_ = !chance_.one_in(4);
  transport::HubOptions options{.queue_bytes_max = kQueueBytesMax};
  options.own_readers = reads_alone_;
  options.patience = {};
  if (reads_alone_ && chance_.one_in(2)) options.near_bytes = chance_.below(500);
  hub_ = std::make_unique<transport::SubscriptionHub>(options, [] {});
  hold_ = std::make_unique<transport::SlotHold>(*hub_);
  for (const auto& [receiver, flushed] : state_) hub_->restore_receiver(receiver, flushed);
  chance_.note("sender: started, {} receivers known", state_.size());
}

void PlayedSender::crash() {
  chance_.note("sender: crash");
  for (auto& connection : connections_) connection.link->cut(chance_);
  connections_.clear();
  own_readers_.clear();
  reader_.reset();
  hold_.reset();
  hub_.reset();
}

SharedLink PlayedSender::dial() {
  if (!up()) return nullptr;
  const auto link = std::make_shared<Link>();
  connections_.push_back({link, transport::SenderSession({chance_.between(2, 20), 1000})});
  return link;
}

// The reader's thread.

void PlayedSender::read() {
  if (!reader_) return begin_reading();
  if (reader_->reading.life() != master_.life()) return lose_master();
  if (reader_->offered) return deliver();
  take_in();
}

void PlayedSender::read_alone() {
  if (!reads_alone_) return;
  if (auto subscription = hub_->claim(Clock::time_point::min()))
    own_readers_.emplace_back(chance_, master_, *hub_, std::move(subscription));
  if (own_readers_.empty()) return;
  const auto which = std::next(own_readers_.begin(),
                               static_cast<std::ptrdiff_t>(chance_.below(own_readers_.size())));
  if (!which->step()) own_readers_.erase(which);
}

void PlayedSender::begin_reading() {
  const auto start = hub_->activate();
  if (!start) return;
  require(*start >= master_.confirmed(), "a receiver needs changes from {}, the slot is at {}",
          *start, master_.confirmed());
  reader_.emplace(Reader{SlotReading(master_, *start)});
  chance_.note("sender: reading from {}", *start);
}

void PlayedSender::take_in() {
  auto& changes = reader_->changes;
  auto& builder = changes.builder;
  for (auto messages = chance_.between(1, 12); messages > 0; --messages) {
    if (!changes.due.empty()) return deliver();
    if (chance_.one_in(8))
      reader_->reading.read_block(changes, chance_);
    else if (!reader_->reading.read(changes, chance_))
      break;
    if (builder.bytes() >= kBatchBytesMax) return deliver();
  }
  if (!changes.due.empty()) return deliver();
  if (builder.in_transaction()) return;
  if (chance_.one_in(3)) reader_->reading.read_idle_position(builder, chance_);
  if (!builder.empty()) return deliver();
  if (hub_->wants_restart()) end_reading();
}

proto::EncodedBatch PlayedSender::next_batch() {
  auto& changes = reader_->changes;
  if (changes.due.empty()) return changes.builder.take();
  auto batch = std::move(changes.due.front());
  changes.due.pop_front();
  return batch;
}

void PlayedSender::deliver() {
  auto& reader = *reader_;
  if (!reader.offered) {
    reader.offered = std::make_shared<proto::EncodedBatch>(next_batch());
    reader.delivered_open_transaction |= reader.offered->transaction_open;
  }
  if (!hub_->offer(reader.offered, Clock::time_point::min())) return;
  reader.delivered_open_transaction = reader.offered->transaction_open;
  reader.offered = nullptr;
  const bool between = !reader.changes.builder.in_transaction() && reader.changes.due.empty();
  if (between && hub_->wants_restart()) end_reading();
}

void PlayedSender::lose_master() {
  if (!reader_) return;
  chance_.note("sender: lost the master");
  end_reading();
}

void PlayedSender::end_reading() {
  const bool mid_transaction = reader_->delivered_open_transaction;
  reader_.reset();
  if (mid_transaction) hub_->abandon_transaction();
}

void PlayedSender::report() {
  if (!reader_ || reader_->reading.life() != master_.life()) return;
  if (const auto held = hold_->report()) master_.confirm(held->flushed);
}

void PlayedSender::note_receivers() {
  state_.clear();
  for (const auto& receiver : hub_->receivers()) {
    state_.insert_or_assign(receiver.receiver, receiver.positions.flushed);
  }
}

// A connection's two threads.

void PlayedSender::serve(std::uint64_t which) {
  auto connection = std::next(connections_.begin(), static_cast<std::ptrdiff_t>(which));
  if (alive(*connection)) return;
  end(*connection);
  connections_.erase(connection);
}

bool PlayedSender::alive(Connection& connection) {
  if (connection.joined) return welcome(connection);
  if (connection.subscription && chance_.one_in(2)) {
    if (connection.subscription->queue().closed()) return false;
    send(connection);
    return true;
  }
  if (connection.link->to_sender.ended()) return false;
  const auto message = connection.link->to_sender.receive();
  return !message || take_message(connection, *message);
}

bool PlayedSender::take_message(Connection& connection, const pb::ReceiverMessage& message) {
  if (!connection.subscription) return greet(connection, message);
  const auto action = connection.session.on_message(message);
  if (const auto* note = std::get_if<transport::NotePositions>(&action)) {
    hub_->acknowledge(*connection.subscription, note->positions);
    return true;
  }
  if (std::holds_alternative<transport::Forget>(action)) hub_->withdraw(*connection.subscription);
  require(std::holds_alternative<transport::Forget>(action), "{}",
          connection.session.ending().message);
  return false;
}

bool PlayedSender::greet(Connection& connection, const pb::ReceiverMessage& first) {
  const auto hello = transport::read_greeting(first);
  require(hello.ok(), "the greeting is refused");
  auto joined = admit(*hello);
  if (!joined.ok()) {
    chance_.note("sender: refuses {}: {}", hello->receiver(), joined.error().message);
    pb::SenderMessage refusal;  // gRPC's status, in the simulation a message of no kind
    connection.link->to_receiver.send(refusal);
    return false;
  }
  connection.joined = *joined;
  const auto wants = TablePatterns::parse({hello->tables().begin(), hello->tables().end()}).value();
  if (!wants.matches_everything()) {
    connection.filter.emplace([wants](const std::string& schema, const std::string& table) {
      return wants.matches(schema, table);
    });
  }
  return true;
}

transport::SlotHold::Joined PlayedSender::admit(const pb::Hello& hello) {
  const MasterLsn resume{hello.resume_lsn()};
  if (!resume.valid()) {
    return hold_->join_new(hello.receiver(), hello.instance(), master_.confirmed());
  }
  require(resume <= master_.wal_end(), "{} asks for {}, the WAL ends at {}", hello.receiver(),
          resume, master_.wal_end());
  return hold_->join_at(hello.receiver(), hello.instance(), resume, master_.confirmed());
}

bool PlayedSender::welcome(Connection& connection) {
  connection.subscription = std::exchange(connection.joined, nullptr);
  const auto start = connection.subscription->start_lsn();
  const auto [noted, is_new] = state_.try_emplace(connection.subscription->receiver(), start);
  noted->second = std::min(noted->second, start);
  pb::SenderMessage message;
  auto& welcome = *message.mutable_welcome();
  welcome.set_wire_version(proto::kWireVersion);
  *welcome.mutable_identity() = played_identity();
  welcome.set_start_lsn(start.value);
  connection.link->to_receiver.send(std::move(message));
  send_heartbeat(connection);
  chance_.note("sender: {} joins at {}", connection.subscription->receiver(), start);
  return true;
}

// Null: nothing, or nothing is left of it.
proto::SharedBatch PlayedSender::next_to_send(Connection& connection) {
  auto& filter = connection.filter;
  if (filter && filter->unsaid().valid() && chance_.one_in(4)) return filter->say_position();
  const auto batch = connection.subscription->queue().pop(Clock::time_point::min());
  if (!batch) return nullptr;
  if (!filter) return *batch;
  auto left = filter->filter(*batch);
  require(left.ok(), "a batch is refused: {}", left.ok() ? "" : left.error().message);
  return *left;
}

void PlayedSender::send(Connection& connection) {
  if (chance_.one_in(20)) return send_heartbeat(connection);
  if (connection.encoded.empty()) {
    const auto batch = next_to_send(connection);
    if (!batch) return;
    const auto encoded = connection.encoder.encode(*batch, [&](pb::SenderMessage& message) {
      connection.encoded.push_back(std::move(message));
      return Result<void>{};
    });
    require(encoded.ok(), "a batch cannot be encoded");
  }
  auto& message = connection.encoded.front();
  if (const auto* frame = frame_of(message)) {
    if (!connection.session.has_room()) return;
    connection.session.on_sent(*frame);
  }
  connection.link->to_receiver.send(std::move(message));
  connection.encoded.pop_front();
}

void PlayedSender::send_heartbeat(Connection& connection) {
  pb::SenderMessage message;
  message.mutable_heartbeat()->set_wal_lsn(master_.wal_end().value);
  connection.link->to_receiver.send(std::move(message));
}

void PlayedSender::end(Connection& connection) {
  connection.link->cut(chance_);
  if (connection.joined) hub_->leave(connection.joined);
  if (connection.subscription) hub_->leave(connection.subscription);
}

void PlayedSender::cut_one(std::uint64_t which) {
  std::next(connections_.begin(), static_cast<std::ptrdiff_t>(which))->link->cut(chance_);
}

}  // namespace bitacora::simulator
