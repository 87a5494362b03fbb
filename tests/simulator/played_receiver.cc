#include "tests/simulator/played_receiver.h"

#include <utility>

#include "proto/relation.h"

namespace bitacora::simulator {
namespace {

using Clock = transport::ChangeFeed::Clock;

constexpr std::size_t kFeedBytesMax = 800;

std::vector<std::string> random_tables(Chance& chance) {
  switch (chance.below(6)) {
    case 0:
      return {"public.datos"};
    case 1:
      return {"otros"};
    case 2:
      return {"ni_uno"};
    default:
      return {};
  }
}

transport::SpoolOptions random_options(Chance& chance) {
  transport::SpoolOptions options;
  if (chance.one_in(3)) options.bytes_max = chance.between(2000, 6000);
  options.disk_reserve_bytes = 0;
  options.keep_time = std::chrono::seconds(chance.below(2) * 2);
  options.keep_bytes = chance.below(4000);
  options.frames = kPlayedLimits;
  return options;
}

}  // namespace

PlayedReceiver::PlayedReceiver(Chance& chance, const PlayedMaster& master, PlayedSender& sender,
                               std::string name)
    : chance_(chance),
      master_(master),
      sender_(sender),
      name_(std::move(name)),
      tables_(random_tables(chance)),
      disk_(std::make_shared<transport::CrashableDisk>()),
      spool_options_(random_options(chance)),
      standby_(chance) {}

// The process.

void PlayedReceiver::start() {
  process_ = std::make_unique<Process>(name_);
  open();
  const auto& spool = *process_->spool;
  process_->feed = std::make_unique<transport::ChangeFeed>(*process_->spool, kFeedBytesMax);
  if (spool.identity() || checkpoint_) process_->identity = played_identity();
  process_->intake_started = spool.identity().has_value();
  place_ = {};
  chance_.note("{}: started, its spool has {} to {}", name_, spool.begin_lsn(), spool.end_lsn());
}

void PlayedReceiver::open() {
  auto options = spool_options_;
  if (checkpoint_) options.identity = played_identity();
  auto spool = transport::Spool::open(transport::open_crashable_storage(disk_), options,
                                      checkpoint_ ? checkpoint_->spool : std::nullopt);
  require(spool.ok(), "{}: {}", name_, spool.ok() ? "" : spool.error().message);
  process_->spool = std::move(*spool);
}

void PlayedReceiver::be_killed() {
  if (process_->connection) process_->connection->link->cut(chance_);
  process_->applier.reset();
  process_->feed.reset();
  process_.reset();
  disk_->failing_syncs = 0;
  chance_.note("{}: killed", name_);
}

void PlayedReceiver::crash() {
  be_killed();
  auto image = disk_->crash(disk_->operations(), chance_.generator());
  disk_ = std::make_shared<transport::CrashableDisk>(std::move(image));
  chance_.note("{}: its machine crashed", name_);
}

void PlayedReceiver::begin_anew() {
  if (up()) be_killed();
  disk_ = std::make_shared<transport::CrashableDisk>();
  checkpoint_.reset();
  standby_.drop_row();
  restored_ = false;
  standby_up_ = true;
  chance_.note("{}: begins anew", name_);
}

// The intake's thread.

void PlayedReceiver::take_in() {
  if (!process_->intake_started) return;
  auto& connection = process_->connection;
  if (!connection) return dial();
  if (connection->agreeing) return decide();
  if (!connection->due.empty()) return carry_out();
  if (connection->link->to_receiver.ended()) {
    return end_connection({ErrorCode::kNetwork, "the connection ended"});
  }
  auto message = connection->link->to_receiver.receive();
  if (message) take_in(std::move(*message));
}

void PlayedReceiver::dial() {
  Process& process = *process_;
  if (!process.spool->reopen().ok()) return;
  const auto link = sender_.dial();
  if (!link) return;
  const auto resume = process.resume.valid() ? process.resume : process.spool->end_lsn();
  transport::ReceiverSession session({"main", name_, "i", tables_}, process.identity, resume);
  pb::ReceiverMessage message;
  *message.mutable_hello() = session.hello();
  link->to_sender.send(std::move(message));
  process.connection.emplace(Connection{link, std::move(session)});
  chance_.note("{}: dials, asks for {}", name_, resume);
}

void PlayedReceiver::take_in(pb::SenderMessage message) {
  auto& connection = *process_->connection;
  if (message.kind_case() == pb::SenderMessage::KIND_NOT_SET) {
    require(restored_ || process_->resume.valid(),
            "{}: refused, although its standby was not restored", name_);
    return begin_anew();
  }
  if (!connection.welcomed) return on_welcome(message);
  if (message.has_heartbeat()) return process_->status.on_heartbeat(message.heartbeat());
  auto event = connection.decoder.decode(std::move(message));
  require(event.ok(), "{}: {}", name_, event.ok() ? "" : event.error().message);
  connection.due = connection.session.on(std::move(**event));
  carry_out();
}

void PlayedReceiver::on_welcome(const pb::SenderMessage& message) {
  const auto welcome = transport::read_welcome(message);
  require(welcome.ok(), "{}: {}", name_, welcome.ok() ? "" : welcome.error().message);
  process_->connection->welcomed = true;
  if (process_->identity) return begin_connection(*welcome);
  process_->connection->agreeing = *welcome;
}

// A first start: everything fits and the standby has what the master had there, or it is withdrawn.
void PlayedReceiver::decide() {
  auto& connection = *process_->connection;
  if (!standby_up_) return;
  if (chance_.one_in(4)) {
    pb::ReceiverMessage message;
    message.mutable_withdraw();
    connection.link->to_sender.send(std::move(message));
    chance_.note("{}: withdraws", name_);
    return end_connection({ErrorCode::kNetwork, "it was refused"});
  }
  const MasterLsn start{connection.agreeing->start_lsn()};
  standby_.create({master_.transactions_before(start), start});
  process_->identity = connection.agreeing->identity();
  process_->resume = start;
  begin_connection(*std::exchange(connection.agreeing, std::nullopt));
}

void PlayedReceiver::begin_connection(const pb::Welcome& welcome) {
  Process& process = *process_;
  const auto start = process.connection->session.on_welcome(welcome);
  require(start.ok(), "{}: {}", name_, start.ok() ? "" : start.error().message);
  const auto begun = process.spool->begin_connection(welcome.identity(), *start);
  if (!begun.ok()) return end_connection(begun.error());
  if (process.resume == *start) process.resume = {};
  process.feed->begin_connection();
  process.status.on_connected(*start);
  if (process.resume.valid()) end_connection({ErrorCode::kNetwork, "the spool is to begin anew"});
}

void PlayedReceiver::carry_out() {
  auto& due = process_->connection->due;
  std::size_t done = 0;
  while (done < due.size() && carry_out(due[done])) ++done;
  if (!process_->connection) return;
  due.erase(due.begin(), due.begin() + static_cast<std::ptrdiff_t>(done));
}

// False: it waits for room, or the connection ended.
bool PlayedReceiver::carry_out(transport::ReceiverAction& action) {
  Process& process = *process_;
  if (const auto* frame = std::get_if<transport::AppendFrame>(&action)) return append(*frame);
  if (const auto* part = std::get_if<transport::AppendStreamed>(&action))
    return append_streamed(part->streamed);
  if (const auto* splice = std::get_if<transport::SpliceStreamed>(&action))
    return splice_one(splice->xid);
  if (const auto* drop = std::get_if<transport::DropStreamed>(&action))
    return process.spool->drop_streamed(drop->xid).ok();
  if (const auto* relation = std::get_if<transport::DescribeRelation>(&action)) {
    process.spool->describe(relation->relation);
  } else if (auto* batch = std::get_if<transport::PutBatch>(&action)) {
    process.feed->put({std::move(batch->changes), batch->bytes, batch->end_lsn, place_},
                      batch->transaction_open);
  } else if (const auto* note = std::get_if<transport::NoteReceived>(&action)) {
    process.status.on_received(note->frames, note->end_lsn);
  }
  return true;
}

bool PlayedReceiver::append(const transport::AppendFrame& append) {
  const auto appended = process_->spool->append(append.frame, append.transaction_open,
                                                static_cast<std::int64_t>(chance_.step) * 10'000);
  if (appended.ok()) place_ = appended->place;
  if (!note(appended)) return false;
  if (append.frame.context_reset()) chance_.note("{}: segment {} begins", name_, place_.segment);
  return true;
}

bool PlayedReceiver::append_streamed(const transport::StreamedFrame& streamed) {
  return note(process_->spool->append_streamed(streamed));
}

// One frame at each step, so that anything can happen in between. True when there is no other.
bool PlayedReceiver::splice_one(std::uint32_t xid) {
  auto& frame = process_->connection->spliced;
  if (!frame) {
    auto taken = process_->spool->take_streamed(xid);
    if (!taken.ok()) {
      end_connection(taken.error());
      return false;
    }
    frame = std::move(*taken);
  }
  if (!frame) return true;
  const bool more = frame->more();
  if (!append({*frame, true})) return false;
  frame.reset();
  if (!more) process_->feed->put_spooled(place_);
  return false;
}

// False: it waits for room, or the connection ended.
bool PlayedReceiver::note(const Result<transport::Appended>& appended) {
  if (!appended.ok()) {
    require(appended.error().code != ErrorCode::kNetwork, "{}: {}", name_,
            appended.error().message);
    end_connection(appended.error());
    return false;
  }
  if (appended->outcome == transport::Appended::kAppended) return true;
  if (process_->resume.valid()) end_connection({ErrorCode::kNetwork, "the spool begins anew"});
  return false;
}

void PlayedReceiver::end_connection(const Error& error) {
  chance_.note("{}: connection lost: {}", name_, error.message);
  process_->connection->link->cut(chance_);
  process_->connection.reset();
  process_->status.on_disconnected();
}

void PlayedReceiver::lose_connection() {
  if (process_->connection) process_->connection->link->cut(chance_);
}

// The acknowledging thread.
void PlayedReceiver::acknowledge() {
  auto& connection = process_->connection;
  if (!connection || !connection->welcomed || connection->agreeing) return;
  if (process_->spool->broken()) {
    return end_connection({ErrorCode::kNetwork, "the spool is broken"});
  }
  auto progress =
      process_->status.wait_for_change(connection->acknowledged, Clock::time_point::min());
  const bool due = transport::worth_acknowledging(connection->acknowledged, progress);
  if (!due && !chance_.one_in(6)) return;  // else the second is over
  connection->acknowledged = progress;
  progress.flushed = process_->spool->synced_lsn();
  pb::ReceiverMessage message;
  *message.mutable_ack() = transport::acknowledgement(progress);
  connection->link->to_sender.send(std::move(message));
}

// The keeper's thread.

void PlayedReceiver::sync() {
  Process& process = *process_;
  if (process.synced) {
    process.status.on_flushed(*std::exchange(process.synced, std::nullopt), process.spool->bytes());
    return;
  }
  const auto synced = process.spool->sync();
  if (!synced.ok()) return;
  process.synced = *synced;
  if (process.applier && process.spool->synced_mark()) restored_ = false;
}

void PlayedReceiver::tidy(std::int64_t now_usec) {
  Process& process = *process_;
  const auto durable = process.status.durable();
  if (process.synced || !durable.valid()) return;
  const auto trimmed = process.spool->trim(durable, now_usec);
  checkpoint_ = {durable, process.spool->synced_mark()};
  process.status.on_flushed(process.spool->synced_lsn(), process.spool->bytes());
  const auto mark = process.spool->synced_mark().value_or(transport::SyncedMark{});
  if (!trimmed.ok()) chance_.note("{}: {}", name_, trimmed.error().message);
  chance_.note("{}: tidied up to {}, the spool has {} to {}, on disk segment {} up to {}", name_,
               durable, process.spool->begin_lsn(), process.spool->end_lsn(), mark.segment,
               mark.bytes);
}

}  // namespace bitacora::simulator
