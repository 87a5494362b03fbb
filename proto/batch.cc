#include "proto/batch.h"

#include <google/protobuf/arena.h>

#include <algorithm>
#include <cstddef>

#include "base/check.h"
#include "proto/differences.h"
#include "proto/part_walker.h"

namespace bitacora::proto {
namespace {

constexpr std::size_t kBlockBytesMin = 512;
constexpr std::size_t kBlockBytesMax = 64u << 10;

}  // namespace

std::string serialize_batch(pb::ChangeBatch& batch) {
  Differences differences;
  for (auto& part : *batch.mutable_parts()) make_differences(part, differences);
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
  Differences differences;
  for (auto& part : *batch->mutable_parts()) undo_differences(part, differences);
  return {arena, batch};
}

bool parse_descriptions(std::string_view bytes, pb::ChangeBatch& into) {
  PartWalker walker(bytes);
  while (const auto part = walker.next()) {
    const bool describes = part->kind == pb::Part::kRelation || part->kind == pb::Part::kType;
    if (describes && !into.add_parts()->ParseFromArray(part->message.data(),
                                                       static_cast<int>(part->message.size())))
      return false;
  }
  return walker.at_end();
}

}  // namespace bitacora::proto
