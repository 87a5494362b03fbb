#include "proto/batch_rewriter.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>

#include <utility>

#include "base/check.h"

namespace bitacora::proto {
namespace {

using google::protobuf::internal::WireFormatLite;
using google::protobuf::io::CodedOutputStream;

constexpr std::size_t kVarintBytesMax = 10;

void append_part(std::string& to, const pb::Part& part) {
  std::uint8_t front[2 * kVarintBytesMax];
  auto* end = WireFormatLite::WriteTagToArray(pb::ChangeBatch::kPartsFieldNumber,
                                              WireFormatLite::WIRETYPE_LENGTH_DELIMITED, front);
  end = CodedOutputStream::WriteVarint64ToArray(part.ByteSizeLong(), end);
  to.append(reinterpret_cast<const char*>(front), static_cast<std::size_t>(end - front));
  const bool appended = part.AppendToString(&to);
  CHECK(appended);
}

}  // namespace

// What is held does not stand there any more, nor what comes from `at` on.
void BatchRewriter::begin_change(std::size_t at) {
  if (std::exchange(changed_, true)) return;
  const bool holds_own = held_ && held_at_ != kNowhere;
  out_.assign(bytes_.substr(0, holds_own ? held_at_ : at));
  written_ = holds_own ? before_held_ : read_;
}

bool BatchRewriter::parse(const RawPart& part, pb::Part& into) {
  if (!into.ParseFromArray(part.message.data(), static_cast<int>(part.message.size())))
    return false;
  undo_differences(into, read_);
  return true;
}

void BatchRewriter::append(pb::Part& part) {
  make_differences(part, written_);
  append_part(out_, part);
}

void BatchRewriter::write_held(std::size_t at) {
  if (!held_) return;
  if (held_at_ == kNowhere) begin_change(at);
  if (changed_) append(*held_);
  held_.reset();
}

bool BatchRewriter::keep(const RawPart& part) {
  write_held(part.at);
  if (!has_differences(part.kind)) {
    if (changed_) out_ += part.whole;
    return true;
  }
  if (!parse(part, part_)) return false;
  if (part_.has_commit()) said_lsn_ = part_.commit().end_lsn();
  if (part_.has_idle_position()) said_lsn_ = part_.idle_position().lsn();
  if (changed_) append(part_);
  return true;
}

bool BatchRewriter::leave_out(const RawPart& part) {
  begin_change(part.at);
  return !has_differences(part.kind) || parse(part, part_);
}

bool BatchRewriter::hold(const RawPart& part) {
  leave_out_held();
  before_held_ = read_;
  held_at_ = part.at;
  held_.emplace();
  return parse(part, *held_);
}

void BatchRewriter::keep_as(const RawPart& part, const pb::Part& other) {
  CHECK(!has_differences(part.kind));
  write_held(part.at);
  begin_change(part.at);
  append_part(out_, other);
}

void BatchRewriter::insert_before(const RawPart& part, std::string_view whole) {
  begin_change(part.at);
  out_ += whole;
}

void BatchRewriter::leave_out_held() {
  take_held_along();
  held_.reset();
}

void BatchRewriter::take_held_along() {
  if (held_ && held_at_ != kNowhere) begin_change(held_at_);
}

void BatchRewriter::add_idle_position(std::uint64_t lsn) {
  begin_change(bytes_.size());
  pb::Part part;
  part.mutable_idle_position()->set_lsn(lsn);
  append(part);
}

}  // namespace bitacora::proto
