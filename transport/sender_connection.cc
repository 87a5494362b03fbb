#include "transport/sender_connection.h"

#include <grpcpp/create_channel.h>

#include <utility>

#include <fmt/format.h>

#include "transport/status_mapping.h"

namespace bitacora::transport {
namespace {

constexpr std::chrono::seconds kDialTimeout{4};
constexpr int kKeepaliveTimeMs = 4000;  // with the timeout below a dead peer is noticed within 10 s
constexpr int kKeepaliveTimeoutMs = 5000;

grpc::ChannelArguments channel_arguments() {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveTimeMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  // Each connection is its own: a broken one is not handed out again from gRPC's global pool.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetMaxReceiveMessageSize(64 << 20);  // a Welcome lists every published table
  return arguments;
}

}  // namespace

Result<std::unique_ptr<SenderConnection>> SenderConnection::open(const std::string& sender,
                                                                 const TlsFiles& tls,
                                                                 const pb::Hello& hello,
                                                                 std::stop_token stop,
                                                                 FrameLimits limits) {
  ASSIGN_OR_RETURN(auto credentials, client_credentials(tls, sender));
  std::unique_ptr<SenderConnection> connection(new SenderConnection(limits));
  connection->channel_ = grpc::CreateCustomChannel(sender, credentials, channel_arguments());
  if (!connection->channel_->WaitForConnected(std::chrono::system_clock::now() + kDialTimeout)) {
    return Error{ErrorCode::kNetwork, fmt::format("no sender answers at {}", sender),
                 "check that it runs, the address, the firewall and, with TLS, both certificates",
                 Recovery::kRetry};
  }
  connection->stub_ = pb::Replication::NewStub(connection->channel_);
  connection->stream_ = connection->stub_->Subscribe(&connection->context_);
  const std::stop_callback cancel_on_stop(stop, [&] { connection->cancel(); });
  RETURN_IF_ERROR(connection->greet(hello));
  return connection;
}

Result<void> SenderConnection::greet(const pb::Hello& hello) {
  pb::ReceiverMessage message;
  *message.mutable_hello() = hello;
  stream_->Write(message);  // when this fails read() says why
  ASSIGN_OR_RETURN(auto answer, read());
  ASSIGN_OR_RETURN(welcome_, read_welcome(std::move(answer)));
  return {};
}

SenderConnection::~SenderConnection() {
  context_.TryCancel();
  if (!stream_) return;
  const std::lock_guard lock(finish_mutex_);
  if (!finished_) stream_->Finish();
}

Result<pb::SenderMessage> SenderConnection::read() {
  pb::SenderMessage message;
  if (stream_->Read(&message)) return message;
  const std::lock_guard lock(finish_mutex_);
  finished_ = true;
  return from_status(stream_->Finish(), context_);
}

Result<SenderEvent> SenderConnection::next() {
  while (true) {
    ASSIGN_OR_RETURN(auto message, read());
    ASSIGN_OR_RETURN(auto event, decoder_.decode(std::move(message)));
    if (event) return *std::move(event);
  }
}

void SenderConnection::withdraw() {
  pb::ReceiverMessage message;
  message.mutable_withdraw();
  if (!stream_->Write(message)) return;
  while (read().ok()) {  // it ends the call
  }
}

bool SenderConnection::acknowledge(const pb::Ack& ack) {
  pb::ReceiverMessage message;
  *message.mutable_ack() = ack;
  return stream_->Write(message);
}

}  // namespace bitacora::transport
