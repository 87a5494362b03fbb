// The sender's side of the copy calls: between gRPC and a CopySource.
#pragma once

#include <grpcpp/server_context.h>

#include <optional>

#include "proto/replication.grpc.pb.h"
#include "transport/copy_source.h"
#include "transport/frame_codec.h"

namespace bitacora::transport {

struct CopyCallOptions {
  FrameLimits frames;
  std::optional<int> zstd_level = {};  // empty: each call finds its own
};

// Thread-safe. Each function is a whole call and blocks until its end. What the source does for a
// caller that is gone is stopped or cancelled within a fraction of a second. Without a source every
// call answers UNIMPLEMENTED.
class CopyCalls {
 public:
  using TableStream = grpc::ServerReaderWriter<pb::CopyMessage, pb::CopyRequest>;

  // `source` may be null, and outlives the calls.
  explicit CopyCalls(CopySource* source, CopyCallOptions options = {})
      : source_(source), options_(options) {}

  grpc::Status begin(grpc::ServerContext& context, const pb::BeginCopyRequest& request,
                     grpc::ServerWriter<pb::BeginCopyMessage>& writer);
  grpc::Status copy_table(grpc::ServerContext& context, TableStream& stream);
  grpc::Status end(grpc::ServerContext& context, const pb::EndCopyRequest& request);
  grpc::Status dump_schema(grpc::ServerContext& context, const pb::DumpSchemaRequest& request,
                           pb::DumpedSchema& schema);
  grpc::Status sequences(grpc::ServerContext& context, const pb::ReadSequencesRequest& request,
                         pb::SequenceValues& values);

 private:
  CopySource* const source_;
  const CopyCallOptions options_;
};

}  // namespace bitacora::transport
