// A serialized pb::ChangeBatch, written part by part: rows go from where they were read into the
// bytes that are compressed, without a message of their own.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "proto/differences.h"
#include "proto/replication.pb.h"
#include "proto/row_block.h"

namespace bitacora::proto {

// Of one relation.
struct WrittenRows {
  std::uint32_t relation_oid = 0;
  std::uint64_t count = 0;
  std::uint64_t bytes = 0;  // of their tuples
};

// Not thread-safe.
class BatchWriter {
 public:
  // A part that is not one of those below. Ends the block of rows, as they do.
  void add(const pb::Part& part);
  void begin(std::uint32_t xid, std::uint64_t commit_lsn, std::int64_t commit_time_usec);
  void commit(std::uint64_t commit_lsn, std::uint64_t end_lsn);
  // In place of an idle position that is the last part.
  void idle_position(std::uint64_t lsn);
  // To the open block, or to a new one. False, and nothing appended: its tuples contradict each
  // other.
  bool row(std::uint32_t relation_oid, pb::RowOperation operation, const Row& row);
  void end_block();

  bool empty() const { return bytes_.empty(); }
  std::size_t bytes() const { return bytes_.size(); }
  bool ends_with_idle_position() const { return idle_at_ != kNone; }
  bool holds_only_an_idle_position() const { return idle_at_ == 0; }

  // The rows of ended blocks, since it was asked last.
  const std::vector<WrittenRows>& written() const { return written_; }
  void forget_written() { written_.clear(); }

  // Everything so far, and begins anew.
  std::string take();
  // What came before the last begin(): that one and what follows stay.
  std::string take_before_transaction();

 private:
  static constexpr std::size_t kNone = SIZE_MAX;

  void begin_part() {
    end_block();
    idle_at_ = kNone;
  }
  void append(const pb::Part& part);
  void count_block(std::size_t tuples_bytes);

  std::string bytes_;
  Differences differences_;
  RowBlockWriter rows_{bytes_};
  std::size_t block_at_ = kNone;  // where the open block's tuples begin
  std::size_t idle_at_ = kNone;   // where the last part begins, if it is an idle position
  Differences before_idle_;
  // The last begin().
  std::size_t begin_at_ = 0;
  std::size_t begun_at_ = 0;  // behind it
  std::uint32_t xid_ = 0;
  std::uint64_t commit_lsn_ = 0;
  std::int64_t commit_time_usec_ = 0;

  // Reused, for their memory.
  std::vector<WrittenRows> written_;
  pb::Part begin_;
  pb::Part commit_;
  pb::Part idle_;
  std::string fields_;
  std::string front_;
};

}  // namespace bitacora::proto
