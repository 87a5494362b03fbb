// Reads parts of tables with COPY, on a connection of its own inside of a snapshot.
#pragma once

#include <functional>
#include <memory>
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
  // is waited for: `waiting` hears who has it. After an error it is of no more use.
  Result<pb::CopyPartEnd> read(const CopyPlanTable& table, const pb::CopyPart& part,
                               const Sink& sink, const OnWaiting& waiting);
  // Ends a read with an error. Thread-safe.
  void cancel();

  static constexpr std::size_t piece_bytes = 128u << 10;

 private:
  PartReader(std::string conninfo, MasterConnection connection);

  const std::string conninfo_;  // to ask who has a lock
  MasterConnection connection_;
  std::unique_ptr<PGcancel, void (*)(PGcancel*)> cancel_;
};

}  // namespace bitacora::wal
