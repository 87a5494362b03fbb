// The parts of a serialized pb::ChangeBatch one after the other, without a message for any of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "proto/replication.pb.h"

namespace bitacora::proto {

// As it lies in the batch.
struct RawPart {
  pb::Part::KindCase kind = pb::Part::KIND_NOT_SET;
  std::size_t at = 0;        // where `whole` begins
  std::string_view whole;    // with the tag and the length that the batch gives it
  std::string_view message;  // a serialized pb::Part
  std::string_view inner;    // the message in that one; empty for a number
};

// Not thread-safe. The bytes must outlive it and its parts.
class PartWalker {
 public:
  explicit PartWalker(std::string_view bytes) : bytes_(bytes) {}

  // Empty at the end, and where the bytes are no batch: see at_end().
  std::optional<RawPart> next();
  bool at_end() const { return at_ == bytes_.size(); }

 private:
  std::string_view bytes_;
  std::size_t at_ = 0;
};

// Of a serialized pb::Rows, wherever in it the number stands; 0 when it is not there.
std::uint32_t relation_oid_of_rows(std::string_view rows);

}  // namespace bitacora::proto
