// The sender's gRPC service: one Subscribe call per connected receiver.
#pragma once

#include <grpcpp/server.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/error.h"
#include "proto/replication.grpc.pb.h"
#include "transport/credentials.h"
#include "transport/frame_codec.h"
#include "transport/inflight_window.h"
#include "transport/subscription_hub.h"

namespace bitacora::transport {

// The answer to a Hello that is let in.
struct Admission {
  pb::Welcome welcome;
  std::shared_ptr<Subscription> subscription;
};

struct ServiceOptions {
  FrameLimits frames;
  InflightLimits inflight;
  std::optional<int> zstd_level = {};  // of all connections; empty: each finds its own
};

// Thread-safe: gRPC calls Subscribe from threads of its own, one per connection.
class ReplicationService final : public pb::Replication::Service {
 public:
  using Admit = std::function<Result<Admission>(const pb::Hello&)>;
  using CurrentHeartbeat = std::function<pb::Heartbeat()>;

  ReplicationService(SubscriptionHub& hub, Admit admit, CurrentHeartbeat heartbeat,
                     ServiceOptions options = {});

  grpc::Status Subscribe(
      grpc::ServerContext* context,
      grpc::ServerReaderWriter<pb::SenderMessage, pb::ReceiverMessage>* stream) override;

 private:
  SubscriptionHub& hub_;
  Admit admit_;
  CurrentHeartbeat heartbeat_;
  ServiceOptions options_;
};

// The listening server around a service. Stops, cancelling every call, when destroyed.
class ReplicationServer {
 public:
  // kConfiguration when the address cannot be listened on.
  static Result<std::unique_ptr<ReplicationServer>> start(const std::string& listen,
                                                          const TlsFiles& tls,
                                                          ReplicationService& service);
  ~ReplicationServer();

 private:
  explicit ReplicationServer(std::unique_ptr<grpc::Server> server) : server_(std::move(server)) {}

  std::unique_ptr<grpc::Server> server_;
};

}  // namespace bitacora::transport
