// Decoded messages to pb::ChangeBatch: rows of one shape become one block, everything keeps its
// order.
#pragma once

#include <google/protobuf/arena.h>

#include <cstddef>
#include <memory>
#include <optional>

#include "base/error.h"
#include "proto/batch.h"
#include "proto/row_block.h"
#include "wal/pgoutput_decoder.h"
#include "wal/relation_cache.h"

namespace bitacora::wal {

// One per replication connection. Not thread-safe.
class BatchBuilder {
 public:
  // Appends a copy of what the message says. kMaster for a row of a relation that was never
  // described, and for messages of streamed transactions, which the live reader does not ask for.
  Result<void> append(const PgOutputMessage& message);

  // The master's WAL up to here holds nothing more for this stream. Outside transactions only; a
  // position that is not newer than what was said before is dropped.
  void append_idle_position(MasterLsn lsn);

  bool in_transaction() const { return in_transaction_; }
  bool holds_only_a_position() const;
  bool empty() const { return batch_->parts_size() == 0 && !block_; }
  std::size_t bytes() const { return bytes_ + (block_ ? block_->bytes() : 0); }

  // Serializes what was appended since the last take(). A batch never holds the end of one
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

  pb::Part& add_part();
  void finish_block();
  void note_complete();
  std::shared_ptr<const pb::ChangeBatch> described() const;
  pb::ChangeBatch split_off_open_transaction();
  pb::ChangeBatch* new_batch() {
    return google::protobuf::Arena::CreateMessage<pb::ChangeBatch>(arena_.get());
  }
  Result<void> require_known(std::uint32_t relation_oid) const;

  RelationCache relations_;
  // A part of its own on the heap costs more than what is in it.
  std::unique_ptr<google::protobuf::Arena> arena_ = std::make_unique<google::protobuf::Arena>();
  pb::ChangeBatch* batch_ = new_batch();         // in the arena
  std::optional<proto::RowBlockBuilder> block_;  // the open run of rows, not yet in batch_
  std::size_t bytes_ = 0;                        // of the parts in batch_, about
  int complete_parts_ = 0;                       // of batch_: before an open transaction
  std::size_t complete_bytes_ = 0;               // of those
  bool in_transaction_ = false;
  bool describes_ = false;  // what was not taken yet holds a relation or a type
  MasterLsn end_lsn_;       // of the last commit or idle position, ever
  MasterLsn taken_lsn_;     // end_lsn_ at the last take()
};

}  // namespace bitacora::wal
