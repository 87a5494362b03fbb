#include "proto/batch_writer.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace bitacora::proto {
namespace {

using google::protobuf::internal::WireFormatLite;
using google::protobuf::io::CodedOutputStream;

constexpr std::size_t kReserveMax = 64u << 10;

void append_varint(std::string& to, std::uint64_t value) {
  std::uint8_t bytes[10];
  const auto* end = CodedOutputStream::WriteVarint64ToArray(value, bytes);
  to.append(reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(end - bytes));
}

void append_tag(std::string& to, int field, WireFormatLite::WireType type) {
  append_varint(to, WireFormatLite::MakeTag(field, type));
}

// As Protocol Buffers writes it: zero is left out.
void append_number(std::string& to, int field, std::uint64_t value) {
  if (value == 0) return;
  append_tag(to, field, WireFormatLite::WIRETYPE_VARINT);
  append_varint(to, value);
}

void append_length(std::string& to, int field, std::size_t bytes) {
  append_tag(to, field, WireFormatLite::WIRETYPE_LENGTH_DELIMITED);
  append_varint(to, bytes);
}

// Everything of a Rows message that comes before the tuples' own bytes.
void append_rows_fields(std::string& to, const RowBlockWriter& rows, std::size_t tuples_bytes) {
  append_number(to, pb::Rows::kRelationOidFieldNumber, rows.relation_oid());
  append_number(to, pb::Rows::kOperationFieldNumber, static_cast<std::uint64_t>(rows.operation()));
  append_number(to, pb::Rows::kCountFieldNumber, rows.count());
  if (!rows.formats().empty()) {
    append_length(to, pb::Rows::kFormatsFieldNumber, rows.formats().size());
    to += rows.formats();
  }
  append_length(to, pb::Rows::kTuplesFieldNumber, tuples_bytes);
}

}  // namespace

void BatchWriter::append(const pb::Part& part) {
  append_length(bytes_, pb::ChangeBatch::kPartsFieldNumber, part.ByteSizeLong());
  const bool appended = part.AppendToString(&bytes_);
  CHECK(appended);
}

void BatchWriter::add(const pb::Part& part) {
  CHECK(!part.has_begin() && !part.has_commit() && !part.has_idle_position());
  begin_part();
  append(part);
}

void BatchWriter::begin(std::uint32_t xid, std::uint64_t commit_lsn,
                        std::int64_t commit_time_usec) {
  begin_part();
  begin_at_ = bytes_.size();
  xid_ = xid;
  commit_lsn_ = commit_lsn;
  commit_time_usec_ = commit_time_usec;
  auto& begin = *begin_.mutable_begin();
  begin.set_xid(differences_.xid_less(xid));
  begin.set_commit_lsn(differences_.lsn_less(commit_lsn));
  begin.set_commit_time_usec(differences_.time_less(commit_time_usec));
  append(begin_);
  begun_at_ = bytes_.size();
}

void BatchWriter::commit(std::uint64_t commit_lsn, std::uint64_t end_lsn) {
  begin_part();
  auto& commit = *commit_.mutable_commit();
  commit.set_commit_lsn(differences_.lsn_less(commit_lsn));
  commit.set_end_lsn(differences_.lsn_less(end_lsn));
  append(commit_);
}

void BatchWriter::idle_position(std::uint64_t lsn) {
  if (idle_at_ != kNone) {
    bytes_.resize(idle_at_);
    differences_ = before_idle_;
  }
  begin_part();
  before_idle_ = differences_;
  const auto at = bytes_.size();
  idle_.mutable_idle_position()->set_lsn(differences_.lsn_less(lsn));
  append(idle_);
  idle_at_ = at;
}

bool BatchWriter::row(std::uint32_t relation_oid, pb::RowOperation operation, const Row& row) {
  if (block_at_ != kNone && rows_.append(relation_oid, operation, row)) return true;
  begin_part();
  rows_.begin(relation_oid, operation);
  const auto at = bytes_.size();
  if (!rows_.append(relation_oid, operation, row)) return false;
  block_at_ = at;
  return true;
}

// The lengths in front of the tuples are known now. A small block is moved cheaply, and large ones
// are few.
void BatchWriter::end_block() {
  if (block_at_ == kNone) return;
  const auto tuples_bytes = bytes_.size() - block_at_;
  count_block(tuples_bytes);
  fields_.clear();
  append_rows_fields(fields_, rows_, tuples_bytes);
  const auto rows_bytes = fields_.size() + tuples_bytes;
  front_.clear();
  append_length(front_, pb::ChangeBatch::kPartsFieldNumber,
                1 + CodedOutputStream::VarintSize64(rows_bytes) + rows_bytes);
  append_length(front_, pb::Part::kRowsFieldNumber, rows_bytes);
  front_ += fields_;
  bytes_.insert(block_at_, front_);
  block_at_ = kNone;
}

// There are as many blocks as rows where transactions are small, but few relations.
void BatchWriter::count_block(std::size_t tuples_bytes) {
  auto at = std::find_if(written_.begin(), written_.end(), [&](const WrittenRows& written) {
    return written.relation_oid == rows_.relation_oid();
  });
  if (at == written_.end()) at = written_.insert(at, {rows_.relation_oid(), 0, 0});
  at->count += rows_.count();
  at->bytes += tuples_bytes;
}

std::string BatchWriter::take() {
  end_block();
  std::string taken = std::exchange(bytes_, {});
  bytes_.reserve(std::min(taken.size(), kReserveMax));
  differences_ = {};
  idle_at_ = kNone;
  begin_at_ = 0;
  return taken;
}

std::string BatchWriter::take_before_transaction() {
  end_block();
  const auto rest = bytes_.substr(begun_at_);
  bytes_.resize(begin_at_);
  auto taken = take();
  begin(xid_, commit_lsn_, commit_time_usec_);
  bytes_ += rest;
  return taken;
}

}  // namespace bitacora::proto
