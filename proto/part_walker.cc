#include "proto/part_walker.h"

#include <google/protobuf/wire_format_lite.h>

namespace bitacora::proto {
namespace {

using google::protobuf::internal::WireFormatLite;

constexpr int kVarintBitsMax = 64;

std::optional<std::uint64_t> take_varint(std::string_view& bytes) {
  std::uint64_t value = 0;
  for (int shift = 0; shift < kVarintBitsMax && !bytes.empty(); shift += 7) {
    const auto byte = static_cast<std::uint8_t>(bytes.front());
    bytes.remove_prefix(1);
    value |= static_cast<std::uint64_t>(byte & 0x7F) << shift;
    if (byte < 0x80) return value;
  }
  return std::nullopt;
}

struct Field {
  int number = 0;
  bool delimited = false;
  std::uint64_t value = 0;      // of a number
  std::string_view bytes = {};  // else
};

// Of the kinds that our messages have.
std::optional<Field> take_field(std::string_view& bytes) {
  const auto tag = take_varint(bytes);
  const auto value = tag ? take_varint(bytes) : std::nullopt;
  if (!value) return std::nullopt;
  const auto wide_tag = static_cast<std::uint32_t>(*tag);
  Field field{WireFormatLite::GetTagFieldNumber(wide_tag), false, *value};
  const auto type = WireFormatLite::GetTagWireType(wide_tag);
  if (type == WireFormatLite::WIRETYPE_VARINT) return field;
  if (type != WireFormatLite::WIRETYPE_LENGTH_DELIMITED || *value > bytes.size())
    return std::nullopt;
  field.delimited = true;
  field.bytes = bytes.substr(0, *value);
  bytes.remove_prefix(*value);
  return field;
}

}  // namespace

std::optional<RawPart> PartWalker::next() {
  auto rest = bytes_.substr(at_);
  const auto field = take_field(rest);
  if (!field || !field->delimited || field->number != pb::ChangeBatch::kPartsFieldNumber)
    return std::nullopt;
  RawPart part;
  part.at = at_;
  part.whole = bytes_.substr(at_, bytes_.size() - at_ - rest.size());
  part.message = field->bytes;
  auto content = part.message;
  if (const auto kind = take_field(content)) {
    part.kind = static_cast<pb::Part::KindCase>(kind->number);
    part.inner = kind->bytes;
  } else if (!part.message.empty()) {
    return std::nullopt;
  }
  at_ += part.whole.size();
  return part;
}

std::uint32_t relation_oid_of_rows(std::string_view rows) {
  while (const auto field = take_field(rows)) {
    if (field->number == pb::Rows::kRelationOidFieldNumber && !field->delimited)
      return static_cast<std::uint32_t>(field->value);
  }
  return 0;
}

}  // namespace bitacora::proto
