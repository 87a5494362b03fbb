// The receiver's side of a Subscribe call.
#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include <chrono>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>

#include "base/error.h"
#include "proto/replication.grpc.pb.h"
#include "transport/credentials.h"
#include "transport/message_decoder.h"
#include "transport/receiver_session.h"

namespace bitacora::transport {

// next() belongs to one thread, acknowledge() to another (or the same); cancel() may be called by
// any.
class SenderConnection {
 public:
  // Dials, says hello, waits for the welcome. Errors: kNetwork that heals, or the sender's own
  // refusal.
  static Result<std::unique_ptr<SenderConnection>> open(const std::string& sender,
                                                        const TlsFiles& tls, const pb::Hello& hello,
                                                        std::stop_token stop = {},
                                                        FrameLimits limits = {});
  ~SenderConnection();

  const pb::Welcome& welcome() const { return welcome_; }

  // Blocks until the next event. A sender that is gone is noticed within 10 s.
  Result<SenderEvent> next();

  // False when the connection is gone; next() then says why.
  bool acknowledge(const pb::Ack& ack);
  // For so long, while nobody calls next(): else gRPC answers no ping, and the sender takes us for
  // dead. By the thread of next().
  void answer_pings(std::chrono::milliseconds time);

  // Instead of acknowledging anything: nothing of this stream will be kept. Returns when the sender
  // has taken note, or is gone; the connection is over then.
  void withdraw();

  void cancel() { context_.TryCancel(); }

 private:
  using Stream = grpc::ClientReaderWriter<pb::ReceiverMessage, pb::SenderMessage>;

  explicit SenderConnection(FrameLimits limits) : decoder_(limits) {}
  Result<pb::SenderMessage> read();
  Result<void> greet(const pb::Hello& hello);

  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<pb::Replication::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<Stream> stream_;
  MessageDecoder decoder_;
  pb::Welcome welcome_;
  std::mutex finish_mutex_;
  bool finished_ = false;  // guarded by finish_mutex_
};

}  // namespace bitacora::transport
