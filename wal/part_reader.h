// Reads parts of tables with COPY, on a connection of its own inside of a snapshot.
#pragma once

#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>

#include "base/error.h"
#include "proto/replication.pb.h"
#include "wal/copy_plan.h"

namespace bitacora::wal {

// One thread owns it, but for cancel().
class PartReader {
 public:
  // Its transaction sees what the snapshot `snapshot` sees. kState when that one is gone.
  static Result<std::unique_ptr<PartReader>> open(const std::string& conninfo,
                                                  const std::string& snapshot);

  using Sink = std::function<Result<void>(std::string_view piece)>;
  // Hands on COPY's output, several rows at a time, up to `piece_bytes` or one row. A locked table
  // is waited for: `waiting` hears who has it. The table stays locked against changes of its shape
  // until the reader ends. Errors: kState, somebody has changed, truncated or rewritten the table
  // since the snapshot, so that its rows cannot be had any more (they may have gone to the sink);
  // kMaster; the sink's. After one it is of no more use.
  Result<pb::CopyPartEnd> read(const CopyPlanTable& table, const pb::CopyPart& part,
                               const Sink& sink, const OnWaiting& waiting);
  // Ends a read with an error, and every later one. Thread-safe. A sink is not interrupted.
  void cancel() { stop_.request_stop(); }

  static constexpr std::size_t piece_bytes = 128u << 10;

 private:
  class Pieces;

  PartReader(std::string conninfo, MasterConnection connection)
      : conninfo_(std::move(conninfo)), connection_(std::move(connection)) {}

  Result<pb::CopyPartEnd> copy(const std::string& name, const std::string& sql, const Sink& sink,
                               const OnWaiting& waiting);
  Result<void> check_unchanged(const std::string& name, std::uint32_t oid);

  const std::string conninfo_;  // to ask who has a lock
  MasterConnection connection_;
  std::stop_source stop_;
};

}  // namespace bitacora::wal
