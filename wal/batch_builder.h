// Decoded messages to pb::ChangeBatch: rows of one shape become one block, everything keeps its
// order.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string_view>

#include "base/error.h"
#include "proto/batch.h"
#include "proto/batch_writer.h"
#include "wal/origin_policy.h"
#include "wal/pgoutput_decoder.h"
#include "wal/relation_cache.h"
#include "wal/table_traffic.h"

namespace bitacora::wal {

// One per replication connection; another one for what is streamed, which describes relations for
// both. Not thread-safe.
class BatchBuilder {
 public:
  // `traffic`, if any, must outlive it.
  explicit BatchBuilder(
      std::shared_ptr<RelationCache> relations = std::make_shared<RelationCache>(),
      TableTraffic* traffic = nullptr, OriginPolicy origins = OriginPolicy::kAuto)
      : relations_(std::move(relations)), traffic_(traffic), origins_(origins) {}

  // Appends a copy of what the message says, in a streamed block with the subtransaction that it
  // belongs to. kMaster for a row of a relation that was never described; kInternal for the ends of
  // blocks and of streamed transactions, see StreamedBatches.
  // Of a transaction that is not shipped, by its origin or because it changed our own tables only,
  // the position remains, and what it described: the master does not describe it again.
  Result<void> append(const PgOutputMessage& message);
  // A message, not decoded yet, that append() would drop: a change of what is left out.
  bool passes_over(std::string_view message) const;

  // The master's WAL up to here holds nothing more for this stream. Outside transactions only; a
  // position that is not newer than what was said before is dropped.
  void append_idle_position(MasterLsn lsn);

  bool in_transaction() const { return in_transaction_; }
  bool holds_only_a_position() const { return writer_->holds_only_an_idle_position(); }
  bool empty() const { return writer_->empty(); }
  std::size_t bytes() const { return writer_->bytes(); }

  // For streamed blocks, which have no Begin: whether the transaction of the one that follows is
  // left out, as far as is known, and as far as is known at its end.
  void begin_block(bool left_out) { left_out_ = left_out; }
  bool left_out() const { return left_out_; }

  // The bytes of what was appended since the last take(). A batch never holds the end of one
  // transaction and a part of the next: inside a transaction that is not the first of the batch,
  // what was complete before it is taken, and the rest stays for the next call.
  proto::EncodedBatch take();

 private:
  Result<void> append(const BeginMessage& message);
  Result<void> append(const CommitMessage& message);
  Result<void> append(const OriginMessage& message);
  Result<void> append(const RelationMessage& message);
  Result<void> append(const TypeMessage& message);
  Result<void> append(const RowMessage& message);
  Result<void> append(const TruncateMessage& message);
  Result<void> append(const LogicalMessage& message);
  template <class Streamed>
  Result<void> append(const Streamed& message);

  void begin_transaction();
  void enter_subtransaction(std::uint32_t xid);
  void describe(const pb::Part& part);
  std::shared_ptr<const pb::ChangeBatch> take_described(bool splits);
  Result<void> require_known(std::uint32_t relation_oid) const;

  std::shared_ptr<RelationCache> relations_;
  TableTraffic* traffic_;
  OriginPolicy origins_;
  std::unique_ptr<proto::BatchWriter> writer_ = std::make_unique<proto::BatchWriter>();
  std::uint32_t row_of_ = 0;  // the last row's relation, which is shipped
  bool in_transaction_ = false;
  bool left_out_ = false;              // the transaction, or the block's, is not shipped
  bool passed_over_ = false;           // something of the transaction, by its origin or its table
  std::optional<BeginMessage> begin_;  // of the open transaction, until something of it is shipped
  bool complete_before_ = false;       // in a transaction: something lies before its beginning
  std::uint32_t subtransaction_ = 0;   // as the batch says; 0 outside of streamed blocks
  std::shared_ptr<pb::ChangeBatch> described_;  // since the last take(); null: nothing
  int described_before_ = 0;                    // parts of it, before the open transaction
  MasterLsn end_lsn_;                           // of the last commit or idle position, ever
  MasterLsn taken_lsn_;                         // end_lsn_ at the last take()
};

}  // namespace bitacora::wal
