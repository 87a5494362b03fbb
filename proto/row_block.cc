#include "proto/row_block.h"

#include <algorithm>

#include <fmt/format.h>

namespace bitacora::proto {
namespace {

constexpr std::int32_t kNullLength = -1;
constexpr std::int32_t kUnchangedLength = -2;

Error malformed(const pb::Rows& block, std::string_view what) {
  return Error{ErrorCode::kNetwork,
               fmt::format("malformed row block of relation {}: {}", block.relation_oid(), what)};
}

// Old and new tuple of one row share the block's formats.
bool formats_agree(const Tuple& old_tuple, const Tuple& new_tuple) {
  if (old_tuple.size() != new_tuple.size()) return false;
  for (std::size_t i = 0; i < old_tuple.size(); ++i) {
    const bool both = old_tuple[i].has_bytes() && new_tuple[i].has_bytes();
    if (both && old_tuple[i].kind != new_tuple[i].kind) return false;
  }
  return true;
}

}  // namespace

bool has_old_tuple(pb::RowOperation operation) {
  return operation != pb::INSERT && operation != pb::UPDATE;
}

bool has_new_tuple(pb::RowOperation operation) {
  return operation != pb::DELETE_KEY && operation != pb::DELETE_FULL;
}

void RowBlockWriter::begin(std::uint32_t relation_oid, pb::RowOperation operation) {
  relation_oid_ = relation_oid;
  operation_ = operation;
  count_ = 0;
  any_text_ = false;
  formats_.clear();
}

bool RowBlockWriter::append(std::uint32_t relation_oid, pb::RowOperation operation,
                            const Row& row) {
  if (relation_oid != relation_oid_ || operation != operation_) return false;
  const bool has_old = has_old_tuple(operation_);
  const bool has_new = has_new_tuple(operation_);
  if (has_old && !accepts(row.old_tuple)) return false;
  if (has_new && !accepts(row.new_tuple)) return false;
  if (has_old && has_new && !formats_agree(row.old_tuple, row.new_tuple)) return false;
  if (has_old) append(row.old_tuple);
  if (has_new) append(row.new_tuple);
  ++count_;
  return true;
}

// At once, rather than value by value.
void RowBlockWriter::make_room(const Tuple& tuple) {
  auto bytes = tuples_.size() + sizeof(std::int16_t);
  for (const auto& value : tuple) bytes += sizeof(std::int32_t) + value.bytes.size();
  if (bytes > tuples_.capacity()) tuples_.reserve(std::max(bytes, 2 * tuples_.capacity()));
}

bool RowBlockWriter::accepts(const Tuple& tuple) const {
  if (count_ == 0) return true;
  if (tuple.size() != formats_.size()) return false;
  for (std::size_t i = 0; i < tuple.size(); ++i) {
    const bool differs = formats_[i] != 'n' && formats_[i] != static_cast<char>(tuple[i].kind);
    if (tuple[i].has_bytes() && differs) return false;
  }
  return true;
}

void RowBlockWriter::append(const Tuple& tuple) {
  if (count_ == 0 && formats_.size() != tuple.size()) formats_.assign(tuple.size(), 'n');
  make_room(tuple);
  append_big_endian(tuples_, static_cast<std::int16_t>(tuple.size()));
  for (std::size_t i = 0; i < tuple.size(); ++i) {
    const Value& value = tuple[i];
    if (value.has_bytes()) {
      formats_[i] = static_cast<char>(value.kind);
      any_text_ = any_text_ || value.kind == ValueKind::kText;
      append_big_endian(tuples_, static_cast<std::int32_t>(value.bytes.size()));
      tuples_.append(value.bytes);
    } else {
      append_big_endian(tuples_, value.kind == ValueKind::kNull ? kNullLength : kUnchangedLength);
    }
  }
}

void RowBlockBuilder::finish(pb::Rows& block) {
  block.set_relation_oid(writer_.relation_oid());
  block.set_operation(writer_.operation());
  block.set_count(writer_.count());
  block.set_formats(std::string(writer_.formats()));
  block.set_tuples(std::move(tuples_));
}

pb::Rows RowBlockBuilder::finish() {
  pb::Rows block;
  finish(block);
  return block;
}

RowBlockReader::RowBlockReader(const pb::Rows& block, std::size_t columns)
    : block_(block), columns_(columns), reader_(block.tuples()) {}

Result<void> RowBlockReader::next(Row& row) {
  CHECK(!done());
  if (!pb::RowOperation_IsValid(block_.operation())) {
    return malformed(block_, "an unknown operation");
  }
  if (!block_.formats().empty() && block_.formats().size() != columns_) {
    return malformed(block_, "formats and columns differ in number");
  }
  const bool has_old = has_old_tuple(block_.operation());
  const bool has_new = has_new_tuple(block_.operation());
  row.old_bytes = {};
  row.new_bytes = {};
  row.old_tuple.resize(has_old ? columns_ : 0);
  row.new_tuple.resize(has_new ? columns_ : 0);
  if (has_old) {
    ASSIGN_OR_RETURN(row.old_bytes, next(row.old_tuple));
  }
  if (has_new) {
    ASSIGN_OR_RETURN(row.new_bytes, next(row.new_tuple));
  }
  ++read_;
  if (done() && !reader_.empty()) return malformed(block_, "bytes after the last row");
  return {};
}

Result<std::string_view> RowBlockReader::next(Tuple& tuple) {
  const auto before = reader_.rest();
  const auto count = reader_.integer<std::uint16_t>();
  if (!reader_.ok() || count != columns_)
    return malformed(block_, "a tuple with another column count");
  const std::string& formats = block_.formats();
  for (std::size_t i = 0; i < columns_; ++i) {
    const auto length = reader_.integer<std::int32_t>();
    if (length == kNullLength) {
      tuple[i] = {ValueKind::kNull};
    } else if (length == kUnchangedLength) {
      tuple[i] = {ValueKind::kUnchanged};
    } else if (length >= 0) {
      const char format = formats.empty() ? 'b' : formats[i];
      if (format != 'b' && format != 't') return malformed(block_, "a value without a format");
      tuple[i] = {static_cast<ValueKind>(format), reader_.take(static_cast<std::size_t>(length))};
    } else {
      return malformed(block_, "a negative length");
    }
  }
  if (!reader_.ok()) return malformed(block_, "the bytes end inside a tuple");
  return before.substr(0, before.size() - reader_.rest().size());
}

}  // namespace bitacora::proto
