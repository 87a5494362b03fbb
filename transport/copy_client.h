// The receiver's side of the copy calls.
#pragma once

#include <grpcpp/channel.h>

#include <memory>
#include <stop_token>
#include <string>

#include "base/error.h"
#include "proto/replication.grpc.pb.h"
#include "transport/copy_source.h"
#include "transport/credentials.h"

namespace bitacora::transport {

// A connection to the sender, shared by the calls. Thread-safe. Every error is the sender's own
// refusal or kNetwork that heals. A sender that is gone is noticed within 10 s.
class CopyClient {
 public:
  static Result<std::unique_ptr<CopyClient>> dial(const std::string& sender, const TlsFiles& tls,
                                                  const std::stop_token& stop = {});

  // Blocks, telling what for, until the sender has a snapshot.
  Result<pb::CopyPlan> begin(const pb::BeginCopyRequest& request, const OnWaiting& waiting,
                             const std::stop_token& stop = {});
  // Each has a connection of the sender's to the master. It must not outlive the client.
  Result<std::unique_ptr<CopyParts>> open(const pb::CopyOpening& opening);
  Result<void> end(const pb::EndCopyRequest& request, const std::stop_token& stop = {});
  Result<pb::DumpedSchema> dump_schema(const pb::DumpSchemaRequest& request,
                                       const std::stop_token& stop = {});
  Result<pb::SequenceValues> sequences(const pb::ReadSequencesRequest& request,
                                       const std::stop_token& stop = {});

 private:
  explicit CopyClient(std::shared_ptr<grpc::Channel> channel);

  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<pb::Replication::Stub> stub_;
};

}  // namespace bitacora::transport
