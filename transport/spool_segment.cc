#include "transport/spool_segment.h"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "base/bytes.h"
#include "base/check.h"
#include "transport/crc32c.h"

namespace bitacora::transport {
namespace {

constexpr std::size_t kNameDigits = 16;
constexpr std::string_view kNameSuffix = ".spool";
constexpr std::size_t kMagicKindBytes = 6;  // of the magic, without its version
constexpr std::uint64_t kPrefixBytes = 8;   // length and checksum, in front of every message
constexpr std::uint64_t kReadBytes = 256u << 10;

std::uint32_t checksum(std::string_view length, std::string_view data) {
  return Crc32c().extend(length).extend(data).value();
}

template <class Message>
void append_message(std::string& out, const Message& message) {
  std::string data;
  const bool serialized = message.SerializeToString(&data);
  CHECK(serialized);
  std::string length;
  append_big_endian(length, static_cast<std::uint32_t>(data.size()));
  out += length;
  append_big_endian(out, checksum(length, data));
  out += data;
}

struct Prefix {
  std::uint32_t length;
  std::uint32_t crc;
};

Prefix load_prefix(std::string_view bytes) {
  return {load_big_endian<std::uint32_t>(bytes.data()),
          load_big_endian<std::uint32_t>(bytes.data() + 4)};
}

bool is_intact(const Prefix& prefix, std::string_view data) {
  std::string length;
  append_big_endian(length, prefix.length);
  return checksum(length, data) == prefix.crc;
}

ScannedHeader torn(std::string why) { return {.damage = std::move(why)}; }

}  // namespace

std::string segment_name(std::uint64_t number) {
  return fmt::format("{:0{}}{}", number, kNameDigits, kNameSuffix);
}

std::optional<std::uint64_t> segment_number(std::string_view name) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  if (error != std::errc() || number == 0 || segment_name(number) != name) return std::nullopt;
  return number;
}

std::string encode_segment_header(const pb::SpoolHeader& header) {
  std::string out(kSegmentMagic);
  append_message(out, header);
  return out;
}

std::string encode_segment_record(const pb::Frame& frame) {
  std::string out;
  append_message(out, frame);
  CHECK(out.size() <= kPrefixBytes + kSegmentRecordBytesMax);
  return out;
}

Result<ScannedHeader> read_segment_header(const StorageFile& file) {
  constexpr std::uint64_t kFixedBytes = kSegmentMagic.size() + kPrefixBytes;
  std::string fixed(kFixedBytes, '\0');
  ASSIGN_OR_RETURN(const auto read, file.read_at(0, fixed));
  fixed.resize(read);
  if (read < kFixedBytes || !fixed.starts_with(kSegmentMagic.substr(0, kMagicKindBytes))) {
    return torn("no header");
  }
  const auto prefix = load_prefix(std::string_view(fixed).substr(kSegmentMagic.size()));
  ASSIGN_OR_RETURN(const auto size, file.size());
  if (prefix.length > kSegmentHeaderBytesMax || prefix.length > size - kFixedBytes) {
    return torn(fmt::format("a header of {} bytes", prefix.length));
  }
  std::string data(prefix.length, '\0');
  ASSIGN_OR_RETURN(const auto filled, file.read_at(kFixedBytes, data));
  ScannedHeader scanned{.bytes = kFixedBytes + prefix.length};
  if (filled != data.size() || !is_intact(prefix, data)) return torn("wrong header checksum");
  // Only now: a torn header has any bytes there. Every version frames its header like this.
  scanned.other_version = !fixed.starts_with(kSegmentMagic);
  if (scanned.other_version) return scanned;
  if (!scanned.header.ParseFromString(data)) return torn("unreadable header");
  return scanned;
}

Result<Scanned> SegmentScanner::next(std::uint64_t limit) {
  if (offset_ == limit) return Scanned::kEnd;
  if (limit - offset_ < kPrefixBytes) return damaged("a record's beginning only");
  ASSIGN_OR_RETURN(const auto head, peek(kPrefixBytes, limit));
  if (head.size() < kPrefixBytes) return damaged("the file is shorter");
  const auto prefix = load_prefix(head);
  if (prefix.length == 0 || prefix.length > kSegmentRecordBytesMax) {
    return damaged(fmt::format("a record of {} bytes", prefix.length));
  }
  const std::uint64_t bytes = kPrefixBytes + prefix.length;
  if (bytes > limit - offset_) return damaged("a record's beginning only");
  ASSIGN_OR_RETURN(const auto record, peek(bytes, limit));
  if (record.size() < bytes) return damaged("the file is shorter");
  const auto data = record.substr(kPrefixBytes);
  if (!is_intact(prefix, data)) return damaged("wrong checksum");
  if (!frame_.ParseFromArray(data.data(), static_cast<int>(data.size()))) {
    return damaged("unreadable frame");
  }
  offset_ += bytes;
  return Scanned::kRecord;
}

// The bytes from offset_ on, through a buffer: many records are small.
Result<std::string_view> SegmentScanner::peek(std::uint64_t bytes, std::uint64_t limit) {
  const bool held = offset_ >= buffer_begin_ && offset_ + bytes <= buffer_begin_ + buffer_.size();
  if (!held) {
    buffer_begin_ = offset_;
    buffer_.resize(std::min(std::max(bytes, kReadBytes), limit - offset_));
    ASSIGN_OR_RETURN(const auto read, file_->read_at(offset_, buffer_));
    buffer_.resize(read);
  }
  return std::string_view(buffer_).substr(offset_ - buffer_begin_, bytes);
}

Scanned SegmentScanner::damaged(std::string why) {
  damage_ = std::move(why);
  buffer_.clear();  // the next attempt reads the file again
  return Scanned::kDamaged;
}

}  // namespace bitacora::transport
