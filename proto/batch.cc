#include "proto/batch.h"

#include <google/protobuf/arena.h>

#include <algorithm>
#include <cstddef>

namespace bitacora::proto {
namespace {

constexpr std::size_t kBlockBytesMin = 512;
constexpr std::size_t kBlockBytesMax = 64u << 10;

}  // namespace

std::shared_ptr<pb::ChangeBatch> parse_batch(std::string_view bytes) {
  google::protobuf::ArenaOptions options;
  options.start_block_size = std::clamp(bytes.size(), kBlockBytesMin, kBlockBytesMax);
  options.max_block_size = kBlockBytesMax;
  const auto arena = std::make_shared<google::protobuf::Arena>(options);
  auto* batch = google::protobuf::Arena::CreateMessage<pb::ChangeBatch>(arena.get());
  if (!batch->ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return nullptr;
  return {arena, batch};
}

}  // namespace bitacora::proto
