#include "wal/live_reader.h"

#include <thread>
#include <utility>

#include "base/log.h"
#include "wal/plugin_options.h"

namespace bitacora::wal {
namespace {

constexpr std::chrono::milliseconds kBacklogNap{1};

}  // namespace

LiveReader::LiveReader(LiveReaderOptions options, BatchSink& sink, WakeUp& wake_up)
    : options_(std::move(options)),
      connector_(options_.conninfo, options_.application_name),
      sink_(sink),
      wake_up_(wake_up) {}

Result<void> LiveReader::run(MasterLsn start_lsn, std::stop_token stop) {
  relations_ = std::make_shared<RelationCache>();
  builder_ = BatchBuilder(relations_, options_.traffic, options_.origins);
  streamed_.emplace(relations_, options_.traffic, options_.origins);
  pace_ = Pace(options_.pace);
  delivered_open_transaction_ = false;
  ASSIGN_OR_RETURN(auto connected, connector_.connect());
  ASSIGN_OR_RETURN(const auto system, identify_system(connected.get()));
  RETURN_IF_ERROR(sink_.on_connected(system));
  ReplicationConnection connection(std::move(connected));
  const auto version = proto_version_for(connection.server_version());
  decoder_ = PgOutputDecoder(PgOutputOptions{version, false});
  auto asked = plugin_options(connection.server_version(), options_.publication, options_.binary,
                              options_.origins);
  asked.emplace_back("streaming", "on");
  RETURN_IF_ERROR(connection.start_replication(options_.slot, start_lsn, asked));
  spdlog::info("event=reading slot={} from={} protocol={} through={}", options_.slot,
               to_string(start_lsn), version, connector_.through());
  RETURN_IF_ERROR(sink_.on_started());
  reported_at_ = Clock::now() - options_.status_interval;
  ASSIGN_OR_RETURN(timeline_, TimelineWatch::begin(connector_, system));
  auto ended = stream(connection, stop);
  timeline_ = {};
  return ended;
}

bool LiveReader::wants_restart() {
  return !builder_.in_transaction() && !streamed_->in_block() &&
         sink_.wants_restart(streamed_->any_shipped());
}

Result<void> LiveReader::stream(ReplicationConnection& connection, const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    ASSIGN_OR_RETURN(const bool any, drain(connection, stop));
    const bool restart = wants_restart();
    if (pace_.due(builder_, Clock::now()) || (restart && !builder_.empty())) {
      RETURN_IF_ERROR(deliver(connection, stop));
    }
    if (restart) return {};
    const bool behind = any && pace_.late();
    RETURN_IF_ERROR(report(connection, !behind));
    if (behind) {
      // The walsender sends change by change: let it, rather than be woken for each.
      std::this_thread::sleep_for(kBacklogNap);
      continue;
    }
    connection.wait(wake_up_.descriptor(),
                    pace_.holding() ? pace_.patience() : options_.status_interval_busy);
    wake_up_.clear();
  }
  return {};
}

// Takes in everything that has already arrived; false: that was nothing.
Result<bool> LiveReader::drain(ReplicationConnection& connection, const std::stop_token& stop) {
  constexpr int kMessagesBetweenReports = 64;
  for (int taken = 1; !stop.stop_requested(); ++taken) {
    ASSIGN_OR_RETURN(const auto message, connection.receive());
    if (!message) return taken > 1;
    RETURN_IF_ERROR(take_in(connection, *message, stop));
    while (builder_.bytes() >= options_.batch_bytes_max && !stop.stop_requested())
      RETURN_IF_ERROR(deliver(connection, stop));
    if (taken % kMessagesBetweenReports == 0) {
      RETURN_IF_ERROR(report(connection, false));
      if (wants_restart()) break;
    }
  }
  return true;
}

Result<void> LiveReader::take_in(ReplicationConnection& connection, const StreamMessage& message,
                                 const std::stop_token& stop) {
  sink_.on_master_position(message.wal_end, message.send_time_usec);
  if (message.keepalive) {
    // Its position is the walsender's: every commit before it has been sent already.
    if (!builder_.in_transaction() && !streamed_->in_block())
      builder_.append_idle_position(message.wal_end);
    return message.reply_requested ? send_status(connection, false) : Result<void>{};
  }
  const bool passed_over = streamed_->in_block() ? streamed_->passes_over(message.payload)
                                                 : builder_.passes_over(message.payload);
  if (passed_over) return {};
  ASSIGN_OR_RETURN(const auto* decoded, decoder_.decode(message.payload));
  if (const auto* begin = std::get_if<BeginMessage>(decoded)) {
    pace_.on_begin(begin->commit_time_usec, message.send_time_usec);
  }
  const bool streamed = streamed_->in_block() ||
                        std::holds_alternative<StreamStartMessage>(*decoded) ||
                        std::holds_alternative<StreamCommitMessage>(*decoded) ||
                        std::holds_alternative<StreamAbortMessage>(*decoded);
  return streamed ? take_streamed(connection, *decoded, stop) : builder_.append(*decoded);
}

// Blocks lie between transactions, and so do the ends of what they belong to: what came before goes
// on before.
Result<void> LiveReader::take_streamed(ReplicationConnection& connection,
                                       const PgOutputMessage& message,
                                       const std::stop_token& stop) {
  if (!builder_.empty()) RETURN_IF_ERROR(deliver(connection, stop));
  if (const auto* start = std::get_if<StreamStartMessage>(&message)) {
    streamed_->start(*start);
    return {};
  }
  if (const auto* commit = std::get_if<StreamCommitMessage>(&message)) {
    auto batch = streamed_->commit(*commit);
    if (!batch) {
      builder_.append_idle_position(commit->end_lsn);
      return {};
    }
    return deliver(connection, std::move(*batch), stop);
  }
  if (const auto* abort = std::get_if<StreamAbortMessage>(&message)) {
    auto batch = streamed_->abort(*abort);
    return batch ? deliver(connection, std::move(*batch), stop) : Result<void>{};
  }
  const bool ends = std::holds_alternative<StreamStopMessage>(message);
  if (!ends) RETURN_IF_ERROR(streamed_->append(message));
  if (!streamed_->empty() && (ends || streamed_->bytes() >= options_.batch_bytes_max))
    RETURN_IF_ERROR(deliver(connection, streamed_->take(), stop));
  if (ends) streamed_->stop();
  return {};
}

Result<void> LiveReader::deliver(ReplicationConnection& connection, const std::stop_token& stop) {
  return deliver(connection, builder_.take(), stop);
}

// Feedback goes on while the sink has no room: a silent walsender client is cut off after
// wal_sender_timeout.
Result<void> LiveReader::deliver(ReplicationConnection& connection, proto::EncodedBatch batch,
                                 const std::stop_token& stop) {
  RETURN_IF_ERROR(timeline_.check());
  // Until it is taken, some of the sink's parts may have it and others not.
  delivered_open_transaction_ = delivered_open_transaction_ || batch.transaction_open;
  const auto shared = std::make_shared<const proto::EncodedBatch>(std::move(batch));
  while (!stop.stop_requested()) {
    if (sink_.offer(shared, Clock::now() + options_.status_interval_busy)) {
      delivered_open_transaction_ = shared->transaction_open;
      return {};
    }
    RETURN_IF_ERROR(report(connection, false));
  }
  return {};
}

// Sends the positions when they moved (at once when there is nothing else to do) and, moved or not,
// every status_interval. That one asks for a reply, so that an idle master's position keeps coming.
Result<void> LiveReader::report(ReplicationConnection& connection, bool drained) {
  const auto since = Clock::now() - reported_at_;
  if (since >= options_.status_interval) return send_status(connection, true);
  if (!drained && since < options_.status_interval_busy) return {};
  return sink_.status() == reported_ ? Result<void>{} : send_status(connection, false);
}

Result<void> LiveReader::send_status(ReplicationConnection& connection, bool request_reply) {
  reported_ = sink_.status();
  reported_at_ = Clock::now();
  return connection.send_status(reported_, request_reply);
}

}  // namespace bitacora::wal
