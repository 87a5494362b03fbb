#include "proto/batch.h"

#include <google/protobuf/arena.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>

#include <algorithm>
#include <cstddef>

#include "base/check.h"
#include "proto/differences.h"

namespace bitacora::proto {
namespace {

constexpr std::size_t kBlockBytesMin = 512;
constexpr std::size_t kBlockBytesMax = 64u << 10;

}  // namespace

std::string serialize_batch(pb::ChangeBatch& batch) {
  Differences differences;
  for (auto& part : *batch.mutable_parts()) {
    if (part.has_begin()) {
      auto& begin = *part.mutable_begin();
      begin.set_xid(differences.xid_less(static_cast<std::uint32_t>(begin.xid())));
      begin.set_commit_lsn(differences.lsn_less(begin.commit_lsn()));
      begin.set_commit_time_usec(differences.time_less(begin.commit_time_usec()));
    } else if (part.has_commit()) {
      auto& commit = *part.mutable_commit();
      commit.set_commit_lsn(differences.lsn_less(commit.commit_lsn()));
      commit.set_end_lsn(differences.lsn_less(commit.end_lsn()));
    } else if (part.has_idle_position()) {
      auto& position = *part.mutable_idle_position();
      position.set_lsn(differences.lsn_less(position.lsn()));
    }
  }
  std::string bytes;
  const bool serialized = batch.SerializeToString(&bytes);
  CHECK(serialized);
  return bytes;
}

namespace {

void undo_differences(pb::ChangeBatch& batch) {
  Differences differences;
  for (auto& part : *batch.mutable_parts()) {
    if (part.has_begin()) {
      auto& begin = *part.mutable_begin();
      begin.set_xid(differences.xid_more(begin.xid()));
      begin.set_commit_lsn(differences.lsn_more(begin.commit_lsn()));
      begin.set_commit_time_usec(differences.time_more(begin.commit_time_usec()));
    } else if (part.has_commit()) {
      auto& commit = *part.mutable_commit();
      commit.set_commit_lsn(differences.lsn_more(commit.commit_lsn()));
      commit.set_end_lsn(differences.lsn_more(commit.end_lsn()));
    } else if (part.has_idle_position()) {
      auto& position = *part.mutable_idle_position();
      position.set_lsn(differences.lsn_more(position.lsn()));
    }
  }
}

}  // namespace

std::shared_ptr<pb::ChangeBatch> parse_batch(std::string_view bytes) {
  google::protobuf::ArenaOptions options;
  options.start_block_size = std::clamp(bytes.size(), kBlockBytesMin, kBlockBytesMax);
  options.max_block_size = kBlockBytesMax;
  const auto arena = std::make_shared<google::protobuf::Arena>(options);
  auto* batch = google::protobuf::Arena::CreateMessage<pb::ChangeBatch>(arena.get());
  if (!batch->ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return nullptr;
  undo_differences(*batch);
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
