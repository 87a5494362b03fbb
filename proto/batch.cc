#include "proto/batch.h"

#include <google/protobuf/arena.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>

#include <algorithm>
#include <cstddef>
#include <utility>

#include "base/check.h"

namespace bitacora::proto {
namespace {

constexpr std::size_t kBlockBytesMin = 512;
constexpr std::size_t kBlockBytesMax = 64u << 10;

// Transaction IDs, positions and times grow little from one transaction to the next, and what is
// little is short. A batch begins from zero: it can be read alone. Sums wrap around, so that every
// number can be told.
class Differences {
 public:
  void take(pb::ChangeBatch& batch) {
    for (auto& part : *batch.mutable_parts()) visit<&Differences::less>(part);
  }
  void put_back(pb::ChangeBatch& batch) {
    for (auto& part : *batch.mutable_parts()) visit<&Differences::more>(part);
  }

 private:
  template <std::uint64_t (*kStep)(std::uint64_t number, std::uint64_t& before)>
  void visit(pb::Part& part) {
    if (part.has_begin()) {
      auto& begin = *part.mutable_begin();
      begin.set_xid(
          static_cast<std::int32_t>(kStep(static_cast<std::uint32_t>(begin.xid()), xid_)));
      begin.set_commit_lsn(kStep(begin.commit_lsn(), lsn_));
      begin.set_commit_time_usec(static_cast<std::int64_t>(
          kStep(static_cast<std::uint64_t>(begin.commit_time_usec()), time_)));
    } else if (part.has_commit()) {
      auto& commit = *part.mutable_commit();
      commit.set_commit_lsn(kStep(commit.commit_lsn(), lsn_));
      commit.set_end_lsn(kStep(commit.end_lsn(), lsn_));
    } else if (part.has_idle_position()) {
      auto& position = *part.mutable_idle_position();
      position.set_lsn(kStep(position.lsn(), lsn_));
    }
  }

  static std::uint64_t less(std::uint64_t number, std::uint64_t& before) {
    return number - std::exchange(before, number);
  }
  static std::uint64_t more(std::uint64_t difference, std::uint64_t& before) {
    return before += difference;
  }

  std::uint64_t xid_ = 0;
  std::uint64_t lsn_ = 0;
  std::uint64_t time_ = 0;
};

}  // namespace

std::string serialize_batch(pb::ChangeBatch& batch) {
  Differences().take(batch);
  std::string bytes;
  const bool serialized = batch.SerializeToString(&bytes);
  CHECK(serialized);
  return bytes;
}

std::shared_ptr<pb::ChangeBatch> parse_batch(std::string_view bytes) {
  google::protobuf::ArenaOptions options;
  options.start_block_size = std::clamp(bytes.size(), kBlockBytesMin, kBlockBytesMax);
  options.max_block_size = kBlockBytesMax;
  const auto arena = std::make_shared<google::protobuf::Arena>(options);
  auto* batch = google::protobuf::Arena::CreateMessage<pb::ChangeBatch>(arena.get());
  if (!batch->ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return nullptr;
  Differences().put_back(*batch);
  return {arena, batch};
}

bool parse_descriptions(std::string_view bytes, pb::ChangeBatch& into) {
  using google::protobuf::internal::WireFormatLite;
  using google::protobuf::io::CodedInputStream;
  const auto tag_of = [](int field) {
    return WireFormatLite::MakeTag(field, WireFormatLite::WIRETYPE_LENGTH_DELIMITED);
  };
  CodedInputStream input(reinterpret_cast<const std::uint8_t*>(bytes.data()),
                         static_cast<int>(bytes.size()));
  while (const auto tag = input.ReadTag()) {
    std::uint32_t length = 0;
    if (tag != tag_of(pb::ChangeBatch::kPartsFieldNumber) || !input.ReadVarint32(&length))
      return false;
    const auto begin = static_cast<std::size_t>(input.CurrentPosition());
    if (length > bytes.size() - begin || !input.Skip(static_cast<int>(length))) return false;
    const auto part = bytes.substr(begin, length);
    const auto kind = part.empty() ? 0u : static_cast<std::uint8_t>(part.front());
    const bool describes = kind == tag_of(pb::Part::kRelationFieldNumber) ||
                           kind == tag_of(pb::Part::kTypeFieldNumber);
    if (describes && !into.add_parts()->ParseFromArray(part.data(), static_cast<int>(length)))
      return false;
  }
  return input.ConsumedEntireMessage();
}

}  // namespace bitacora::proto
