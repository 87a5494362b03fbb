#include "transport/replication_service.h"

#include <grpcpp/server_builder.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "base/fault_point.h"
#include "base/log.h"
#include "transport/adaptive_level.h"
#include "transport/message_encoder.h"
#include "transport/sender_channel.h"
#include "transport/sender_session.h"
#include "transport/status_mapping.h"

namespace bitacora::transport {
namespace {

using Clock = std::chrono::steady_clock;
using Stream = grpc::ServerReaderWriter<pb::SenderMessage, pb::ReceiverMessage>;

constexpr std::chrono::seconds kHeartbeatInterval{1};
// Between two positions of what a receiver is not sent: one that takes nothing of a busy stream
// gets a frame now and then, and is not far behind.
constexpr std::chrono::milliseconds kPositionInterval{20};
constexpr int kKeepaliveTimeMs = 4000;  // with the timeout below a dead peer is noticed within 10 s
constexpr int kKeepaliveTimeoutMs = 5000;

// One Subscribe call: the calling thread sends, a second one takes acknowledgements in.
class Connection {
 public:
  Connection(SubscriptionHub& hub, Admission admission, Stream& stream,
             const ServiceOptions& options, const ReplicationService::CurrentHeartbeat& heartbeat)
      : hub_(hub),
        subscription_(std::move(admission.subscription)),
        stream_(stream),
        level_(options.zstd_level),
        encoder_(level_.level(), options.frames),
        filter_(filter(std::move(admission.takes))),
        session_(options.inflight),
        heartbeat_(heartbeat),
        acknowledgements_([this] { take_acknowledgements(); }) {}

  // Until the receiver goes, the hub disconnects it, or it misbehaves.
  Error run() {
    while (!subscription_->queue().closed()) {
      if (Clock::now() >= next_heartbeat_ && !send_heartbeat()) break;
      const auto batch = subscription_->queue().pop(std::min(next_heartbeat_, position_due()));
      auto sent = batch ? send_what_is_left(*batch) : Result<void>{};
      if (sent.ok() && Clock::now() >= position_due()) sent = send_position();
      if (!sent.ok()) return sent.error();
    }
    return ending();
  }

 private:
  static std::optional<proto::BatchFilter> filter(proto::BatchFilter::Takes takes) {
    if (!takes) return std::nullopt;
    return proto::BatchFilter(std::move(takes));
  }

  Result<void> send_what_is_left(const proto::SharedBatch& batch) {
    auto left = batch;
    if (filter_) {
      ASSIGN_OR_RETURN(left, filter_->filter(batch));
    }
    return left ? send(*left) : Result<void>{};
  }

  Clock::time_point position_due() const {
    const bool unsaid = filter_ && filter_->unsaid().valid();
    return unsaid ? position_sent_ + kPositionInterval : Clock::time_point::max();
  }

  Result<void> send_position() {
    position_sent_ = Clock::now();
    return send(*filter_->say_position());
  }

  Result<void> send(const proto::EncodedBatch& batch) {
    level_.spend_on(&SendingTime::waiting);
    auto sent =
        encoder_.encode(batch, [this](pb::SenderMessage& message) { return send(message); });
    level_.spend_on(&SendingTime::compressing);
    return sent;
  }

  Error ending() {
    const std::lock_guard lock(mutex_);
    return session_.ending();
  }

  Result<void> send(const pb::SenderMessage& message) {
    level_.spend_on(&SendingTime::compressing);
    auto sent = send_when_room(message);
    level_.spend_on(&SendingTime::sending);
    return sent;
  }

  Result<void> send_when_room(const pb::SenderMessage& message) {
    if (message.has_frame()) RETURN_IF_ERROR(wait_for_room(message.frame()));
    if (message.has_streamed_frame())
      RETURN_IF_ERROR(wait_for_room(message.streamed_frame().frame()));
    fault_point("frame.before_send");
    return stream_.Write(message) ? Result<void>{} : ending();
  }

  Result<void> wait_for_room(const pb::Frame& frame) {
    std::unique_lock lock(mutex_);
    while (!session_.has_room() && !subscription_->queue().closed()) {
      // Acknowledgements that open nothing wake it too: the deadline stays.
      if (opened_.wait_until(lock, next_heartbeat_) == std::cv_status::no_timeout &&
          Clock::now() < next_heartbeat_) {
        continue;
      }
      lock.unlock();
      level_.spend_on(&SendingTime::sending);
      if (!send_heartbeat()) return ending();
      lock.lock();
    }
    session_.on_sent(frame);
    return {};
  }

  // As often as a heartbeat.
  void adapt_level() {
    if (!level_.adapt()) return;
    encoder_.set_level(level_.level());
    spdlog::debug("event=compression_level receiver={} level={}", subscription_->receiver(),
                  level_.level());
  }

  bool send_heartbeat() {
    pb::SenderMessage message;
    *message.mutable_heartbeat() = heartbeat_();
    next_heartbeat_ = Clock::now() + kHeartbeatInterval;
    adapt_level();
    return stream_.Write(message);
  }

  // Ends when the stream does; closing the queue then ends run().
  void take_acknowledgements() {
    pb::ReceiverMessage message;
    while (stream_.Read(&message) && take(message)) {
    }
    subscription_->queue().close();
    opened_.notify_one();
  }

  // False: the connection is to end.
  bool take(const pb::ReceiverMessage& message) {
    const auto action = [&] {
      const std::lock_guard lock(mutex_);
      return session_.on_message(message);
    }();
    if (const auto* note = std::get_if<NotePositions>(&action)) {
      fault_point("ack.received");
      opened_.notify_one();
      hub_.acknowledge(*subscription_, note->positions);
      return true;
    }
    if (std::holds_alternative<Forget>(action) && hub_.withdraw(*subscription_))
      spdlog::info("event=receiver_withdrawn receiver={}", subscription_->receiver());
    return false;
  }

  SubscriptionHub& hub_;
  std::shared_ptr<Subscription> subscription_;
  Stream& stream_;
  // The sending thread's:
  AdaptiveLevel level_;
  MessageEncoder encoder_;
  std::optional<proto::BatchFilter> filter_;  // empty: it takes everything
  Clock::time_point position_sent_ = {};
  Clock::time_point next_heartbeat_ = Clock::now();
  std::mutex mutex_;
  std::condition_variable opened_;
  SenderSession session_;  // guarded by mutex_
  const ReplicationService::CurrentHeartbeat& heartbeat_;
  std::jthread acknowledgements_;
};

Result<pb::Hello> read_hello(Stream& stream) {
  pb::ReceiverMessage first;
  stream.Read(&first);  // nothing came: then it is no Hello
  return read_greeting(first);
}

}  // namespace

ReplicationService::ReplicationService(SubscriptionHub& hub, Admit admit,
                                       CurrentHeartbeat heartbeat, ServiceOptions options,
                                       CopySource* copies)
    : hub_(hub),
      admit_(std::move(admit)),
      heartbeat_(std::move(heartbeat)),
      options_(options),
      copy_calls_(copies, {.frames = options.frames, .zstd_level = options.zstd_level}) {}

grpc::Status ReplicationService::Subscribe(grpc::ServerContext* context, Stream* stream) {
  const auto hello = read_hello(*stream);
  if (!hello.ok()) return to_status(hello.error(), *context);
  auto admission = admit_(*hello, peer_of(*context));
  if (!admission.ok()) {
    // A receiver that has begun outlives what is wrong with the master.
    Error refusal = admission.error();
    if (refusal.code == ErrorCode::kMaster) refusal.recovery = Recovery::kRetry;
    // What heals is asked for again and again, and has been told by whoever waits for it.
    const auto level = admission.error().heals() ? spdlog::level::debug : spdlog::level::warn;
    spdlog::log(level, "event=receiver_refused receiver={} peer={} reason=\"{}\"",
                hello->receiver(), context->peer(), one_line(admission.error()));
    return to_status(refusal, *context);
  }
  const auto subscription = admission->subscription;
  spdlog::info("event=receiver_connected receiver={} peer={} from={}", subscription->receiver(),
               context->peer(), to_string(MasterLsn{admission->welcome.start_lsn()}));
  Error ended = SenderSession().ending();
  pb::SenderMessage welcome;
  *welcome.mutable_welcome() = std::move(admission->welcome);
  if (stream->Write(welcome)) {
    Connection connection(hub_, *std::move(admission), *stream, options_, heartbeat_);
    ended = connection.run();
    // The acknowledging thread ends with the stream: a receiver that is still there is told to go.
    context->TryCancel();
  }
  hub_.leave(subscription);
  spdlog::info("event=receiver_disconnected receiver={} reason=\"{}\"", subscription->receiver(),
               one_line(ended));
  return to_status(ended, *context);
}

grpc::Status ReplicationService::BeginCopy(grpc::ServerContext* context,
                                           const pb::BeginCopyRequest* request,
                                           grpc::ServerWriter<pb::BeginCopyMessage>* writer) {
  return copy_calls_.begin(*context, *request, *writer);
}

grpc::Status ReplicationService::CopyTable(grpc::ServerContext* context,
                                           CopyCalls::TableStream* stream) {
  return copy_calls_.copy_table(*context, *stream);
}

grpc::Status ReplicationService::EndCopy(grpc::ServerContext* context,
                                         const pb::EndCopyRequest* request,
                                         pb::EndCopyReply* /*reply*/) {
  return copy_calls_.end(*context, *request);
}

grpc::Status ReplicationService::DumpSchema(grpc::ServerContext* context,
                                            const pb::DumpSchemaRequest* request,
                                            pb::DumpedSchema* schema) {
  return copy_calls_.dump_schema(*context, *request, *schema);
}

grpc::Status ReplicationService::ReadSequences(grpc::ServerContext* context,
                                               const pb::ReadSequencesRequest* request,
                                               pb::SequenceValues* values) {
  return copy_calls_.sequences(*context, *request, *values);
}

Result<std::unique_ptr<ReplicationServer>> ReplicationServer::start(const std::string& listen,
                                                                    const TlsFiles& tls,
                                                                    ReplicationService& service) {
  ASSIGN_OR_RETURN(auto credentials, server_credentials(tls, listen));
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort(listen, credentials, &port);
  builder.RegisterService(&service);
  builder.SetMaxReceiveMessageSize(kMessageBytesMax);
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveTimeMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             kKeepaliveTimeMs / 2);
  auto server = builder.BuildAndStart();
  if (!server || port == 0) {
    return Error{ErrorCode::kConfiguration, fmt::format("cannot listen on {}", listen),
                 "check that the address is this host's and the port is free, or choose another "
                 "with --listen"};
  }
  return std::unique_ptr<ReplicationServer>(new ReplicationServer(std::move(server)));
}

ReplicationServer::~ReplicationServer() {
  server_->Shutdown(std::chrono::system_clock::now() + std::chrono::milliseconds(500));
}

}  // namespace bitacora::transport
