// Runs of rows as bytes: building them on the sender, reading them on the receiver. A tuple is laid
// out as in COPY BINARY: a 2-byte column count, then per column a 4-byte length and its bytes. Two
// lengths are reserved: -1 for NULL and -2 for an unchanged TOAST value. Everything is in network
// byte order.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "proto/replication.pb.h"

namespace bitacora::proto {

enum class ValueKind : char { kNull = 'n', kUnchanged = 'u', kText = 't', kBinary = 'b' };

// One column's value; `bytes` belongs to the buffer it was read from.
struct Value {
  ValueKind kind = ValueKind::kNull;
  std::string_view bytes = {};

  bool has_bytes() const { return kind == ValueKind::kText || kind == ValueKind::kBinary; }
};

using Tuple = std::vector<Value>;

// Old (key or full) and new tuple of one row, as the operation has them; the other one is empty.
struct Row {
  Tuple old_tuple;
  Tuple new_tuple;
  // The same as they lie in the block they were read from.
  std::string_view old_bytes = {};
  std::string_view new_bytes = {};
};

bool has_old_tuple(pb::RowOperation operation);
bool has_new_tuple(pb::RowOperation operation);

// Appends rows of one relation and operation to a buffer that somebody else owns. Not thread-safe.
class RowBlockWriter {
 public:
  explicit RowBlockWriter(std::string& tuples) : tuples_(tuples) {}

  void begin(std::uint32_t relation_oid, pb::RowOperation operation);

  // False, and nothing appended, when the row is of another relation or operation, or one of its
  // columns has another format than in the rows before: another block begins with it. False right
  // after begin(): the row's own two tuples differ in columns or formats, no block can hold it.
  bool append(std::uint32_t relation_oid, pb::RowOperation operation, const Row& row);

  std::uint32_t relation_oid() const { return relation_oid_; }
  pb::RowOperation operation() const { return operation_; }
  std::uint32_t count() const { return count_; }
  std::string_view formats() const { return any_text_ ? formats_ : std::string_view(); }

 private:
  bool accepts(const Tuple& tuple) const;
  void append(const Tuple& tuple);
  void make_room(const Tuple& tuple);

  std::string& tuples_;
  std::uint32_t relation_oid_ = 0;
  pb::RowOperation operation_ = pb::INSERT;
  std::uint32_t count_ = 0;
  bool any_text_ = false;
  std::string formats_;  // one of n, t, b per column
};

// Collects one block of rows. Not thread-safe.
class RowBlockBuilder {
 public:
  RowBlockBuilder(std::uint32_t relation_oid, pb::RowOperation operation) {
    writer_.begin(relation_oid, operation);
  }
  RowBlockBuilder(const RowBlockBuilder&) = delete;
  RowBlockBuilder& operator=(const RowBlockBuilder&) = delete;

  // As RowBlockWriter.
  bool append(std::uint32_t relation_oid, pb::RowOperation operation, const Row& row) {
    return writer_.append(relation_oid, operation, row);
  }
  std::size_t bytes() const { return tuples_.size(); }
  std::uint32_t count() const { return writer_.count(); }

  // Moves the block out; the builder is used up.
  void finish(pb::Rows& block);
  pb::Rows finish();

 private:
  std::string tuples_;
  RowBlockWriter writer_{tuples_};
};

// Walks over the rows of a block. The rows' bytes belong to the block.
class RowBlockReader {
 public:
  // `columns` is the relation's column count: every tuple must have exactly so many.
  RowBlockReader(const pb::Rows& block, std::size_t columns);

  bool done() const { return read_ == block_.count(); }

  // Reads the next row into `row` (reused). kNetwork error: malformed bytes, count or lengths that
  // do not add up.
  Result<void> next(Row& row);

 private:
  Result<std::string_view> next(Tuple& tuple);

  const pb::Rows& block_;
  std::size_t columns_;
  ByteReader reader_;
  std::uint32_t read_ = 0;
};

}  // namespace bitacora::proto
