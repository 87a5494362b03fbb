// What the master streams of transactions that are still in progress, to batches of their own:
// their rows travel at once and count when the commit comes. Source:
// https://www.postgresql.org/docs/current/protocol-logical-replication.html
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "proto/batch.h"
#include "wal/batch_builder.h"
#include "wal/pgoutput_decoder.h"
#include "wal/relation_cache.h"

namespace bitacora::wal {

// One per replication connection. Not thread-safe.
class StreamedBatches {
 public:
  // What is described inside of a block holds for what comes after the transaction too.
  explicit StreamedBatches(const std::shared_ptr<RelationCache>& relations,
                           TableTraffic* traffic = nullptr,
                           OriginPolicy origins = OriginPolicy::kAuto)
      : builder_(relations, traffic, origins) {}

  // A block: its beginning, what is in it, and its end, at which all of it must have been taken.
  void start(const StreamStartMessage& message);
  Result<void> append(const PgOutputMessage& message) { return builder_.append(message); }
  bool passes_over(std::string_view message) const { return builder_.passes_over(message); }
  void stop();

  bool in_block() const { return xid_ != 0; }
  // Of a transaction that is left out by its origin, which its first block tells, nothing is to be
  // taken.
  bool empty() const { return builder_.left_out() || builder_.empty(); }
  std::size_t bytes() const { return empty() ? 0 : builder_.bytes(); }
  // Something of a transaction was taken whose end has not come yet.
  bool any_shipped() const;

  // The rows of the block since the last take().
  proto::EncodedBatch take();
  // Outside of blocks. Empty: nothing was shipped that this would concern. Of one that was left out
  // its commit is what it described, since the master does not describe it again, and its end as an
  // idle position.
  std::optional<proto::EncodedBatch> commit(const StreamCommitMessage& message);
  std::optional<proto::EncodedBatch> abort(const StreamAbortMessage& message);

 private:
  struct InProgress {
    bool shipped = false;
    bool left_out = false;
    std::vector<std::uint32_t> aborted;  // subtransactions
    std::shared_ptr<pb::ChangeBatch> described;
  };

  void keep_described(InProgress& transaction, const pb::ChangeBatch& described);

  BatchBuilder builder_;
  std::uint32_t xid_ = 0;  // of the block; 0: outside
  std::map<std::uint32_t, InProgress> in_progress_;
};

}  // namespace bitacora::wal
