// What the service's copy calls ask of the master's side. The sender implements it; a test may.
#pragma once

#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>

#include "base/error.h"
#include "proto/replication.pb.h"
#include "transport/peer.h"

namespace bitacora::transport {

// Told what is being waited for, at most once a second, by the thread that waits.
using OnWaiting = std::function<void(const std::string& what)>;
// Takes a piece of COPY's output. An error ends the part.
using CopySink = std::function<Result<void>(std::string_view piece)>;

// Reads parts of tables in one snapshot, one after the other. One thread owns it.
class CopyParts {
 public:
  virtual ~CopyParts() = default;
  // Hands on all of the part's rows before it returns. Errors are the master's or the sink's; after
  // one it is of no more use.
  virtual Result<pb::CopyPartEnd> read(const pb::CopyPart& part, const CopySink& sink,
                                       const OnWaiting& waiting) = 0;
  // Ends a read that is going on with an error; may be called again and again. Thread-safe.
  virtual void cancel() = 0;
};

// Thread-safe. `peer` is who calls.
class CopySource {
 public:
  virtual ~CopySource() = default;
  virtual Result<pb::CopyPlan> begin(const pb::BeginCopyRequest& request, const Peer& peer,
                                     const OnWaiting& waiting, const std::stop_token& stop) = 0;
  virtual Result<std::unique_ptr<CopyParts>> open(const pb::CopyOpening& opening,
                                                  const Peer& peer) = 0;
  virtual Result<void> end(const pb::EndCopyRequest& request, const Peer& peer) = 0;
  virtual Result<pb::DumpedSchema> dump_schema(const pb::DumpSchemaRequest& request,
                                               const Peer& peer, const std::stop_token& stop) = 0;
  virtual Result<pb::SequenceValues> sequences(const pb::ReadSequencesRequest& request,
                                               const Peer& peer) = 0;
};

}  // namespace bitacora::transport
