#include "transport/sender_connection.h"

#include <thread>
#include <utility>

#include "transport/sender_channel.h"
#include "transport/status_mapping.h"

namespace bitacora::transport {
Result<std::unique_ptr<SenderConnection>> SenderConnection::open(const std::string& sender,
                                                                 const TlsFiles& tls,
                                                                 const pb::Hello& hello,
                                                                 std::stop_token stop,
                                                                 FrameLimits limits) {
  std::unique_ptr<SenderConnection> connection(new SenderConnection(limits));
  ASSIGN_OR_RETURN(connection->channel_, dial_sender(sender, tls, stop));
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

void SenderConnection::answer_pings(std::chrono::milliseconds time) {
  const auto until = std::chrono::system_clock::now() + time;
  const bool lost = channel_->WaitForStateChange(GRPC_CHANNEL_READY, until);
  if (lost) std::this_thread::sleep_until(until);
}

bool SenderConnection::acknowledge(const pb::Ack& ack) {
  pb::ReceiverMessage message;
  *message.mutable_ack() = ack;
  return stream_->Write(message);
}

}  // namespace bitacora::transport
