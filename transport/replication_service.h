// The sender's gRPC service: one Subscribe call per connected receiver, and the copy calls.
#pragma once

#include <grpcpp/server.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/error.h"
#include "proto/batch_filter.h"
#include "proto/replication.grpc.pb.h"
#include "transport/copy_calls.h"
#include "transport/copy_source.h"
#include "transport/credentials.h"
#include "transport/frame_codec.h"
#include "transport/inflight_window.h"
#include "transport/peer.h"
#include "transport/subscription_hub.h"

namespace bitacora::transport {

// The answer to a Hello that is let in.
struct Admission {
  pb::Welcome welcome;
  std::shared_ptr<Subscription> subscription;
  proto::BatchFilter::Takes takes = {};  // empty: every table
};

struct ServiceOptions {
  FrameLimits frames;
  InflightLimits inflight;
  std::optional<int> zstd_level = {};  // of all connections; empty: each finds its own
};

// Thread-safe: gRPC makes the calls from threads of its own, one per call.
class ReplicationService final : public pb::Replication::Service {
 public:
  using Admit = std::function<Result<Admission>(const pb::Hello&, const Peer&)>;
  using CurrentHeartbeat = std::function<pb::Heartbeat()>;

  // `copies` outlives the service; null: the copy calls are not offered.
  ReplicationService(SubscriptionHub& hub, Admit admit, CurrentHeartbeat heartbeat,
                     ServiceOptions options = {}, CopySource* copies = nullptr);

  grpc::Status Subscribe(
      grpc::ServerContext* context,
      grpc::ServerReaderWriter<pb::SenderMessage, pb::ReceiverMessage>* stream) override;
  grpc::Status BeginCopy(grpc::ServerContext* context, const pb::BeginCopyRequest* request,
                         grpc::ServerWriter<pb::BeginCopyMessage>* writer) override;
  grpc::Status CopyTable(grpc::ServerContext* context, CopyCalls::TableStream* stream) override;
  grpc::Status EndCopy(grpc::ServerContext* context, const pb::EndCopyRequest* request,
                       pb::EndCopyReply* reply) override;
  grpc::Status DumpSchema(grpc::ServerContext* context, const pb::DumpSchemaRequest* request,
                          pb::DumpedSchema* schema) override;
  grpc::Status ReadSequences(grpc::ServerContext* context, const pb::ReadSequencesRequest* request,
                             pb::SequenceValues* values) override;

 private:
  SubscriptionHub& hub_;
  Admit admit_;
  CurrentHeartbeat heartbeat_;
  ServiceOptions options_;
  CopyCalls copy_calls_;
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
