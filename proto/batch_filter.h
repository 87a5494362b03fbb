// What one receiver gets of the batches that all share: nothing of tables that it does not take.
// Pure: batches in, batches out.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/lsn.h"
#include "proto/batch.h"
#include "proto/batch_rewriter.h"
#include "proto/part_walker.h"

namespace bitacora::proto {

// One per connection. Not thread-safe. After an error it is of no more use.
class BatchFilter {
 public:
  using Takes = std::function<bool(const std::string& schema, const std::string& table)>;

  // Asked when a table is described, and again when it is described anew.
  explicit BatchFilter(Takes takes) : takes_(std::move(takes)) {}

  // The next one of the connection. What is left of it: the batch itself where that is all of it,
  // null where it is nothing. A transaction of which nothing is left is left out as a whole.
  // kInternal, healing by a new connection: bytes that are no batch, or a change of a table that
  // was not described.
  Result<SharedBatch> filter(const SharedBatch& batch);

  // Everything up to here is complete, which no batch that it answered says, and which may be said
  // now; 0: there is nothing to say.
  MasterLsn unsaid() const;
  // A batch that says it: an idle position.
  SharedBatch say_position();

 private:
  using Taken = std::map<std::uint32_t, bool>;  // by OID

  // A transaction in progress.
  struct Streamed {
    bool sent = false;  // some of it
    Taken described;
  };

  Result<SharedBatch> filter_in_order(const SharedBatch& batch);
  Result<SharedBatch> filter_part(const SharedBatch& batch);
  Result<SharedBatch> filter_commit(const SharedBatch& batch);
  SharedBatch filter_abort(const SharedBatch& batch);

  Result<void> walk(BatchRewriter& rewriter, std::string_view bytes, Taken& described);
  Result<void> take(BatchRewriter& rewriter, const RawPart& part, Taken& described);
  Result<void> take_relation(BatchRewriter& rewriter, const RawPart& part, Taken& described);
  Result<void> take_rows(BatchRewriter& rewriter, const RawPart& part, const Taken& described);
  Result<void> take_truncate(BatchRewriter& rewriter, const RawPart& part, const Taken& described);
  Result<void> note_type(const RawPart& part);
  SharedBatch finish(const SharedBatch& batch, BatchRewriter& rewriter);

  const Takes takes_;
  Taken described_;
  std::map<std::uint32_t, Streamed> streamed_;  // by xid
  // As they lay in their batch: they go with the tables that have them.
  std::map<std::uint32_t, std::string> types_;
  HeldPart begin_;        // of the open transaction, while nothing of it was sent
  bool in_sent_ = false;  // in a transaction whose Begin was
  MasterLsn complete_;    // everything up to here was filtered
  MasterLsn said_;
};

}  // namespace bitacora::proto
