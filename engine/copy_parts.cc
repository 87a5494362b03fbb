#include "engine/copy_parts.h"

#include <algorithm>

namespace bitacora::engine {
namespace {

bool same_pages(const apply::CopiedPart& a, const apply::CopiedPart& b) {
  return a.piece == b.piece && a.begin_page == b.begin_page && a.end_page == b.end_page;
}

bool contains(const std::vector<apply::CopiedPart>& parts, const apply::CopiedPart& part) {
  return std::any_of(parts.begin(), parts.end(),
                     [&](const apply::CopiedPart& one) { return same_pages(one, part); });
}

}  // namespace

std::vector<apply::CopiedPart> split_into_parts(const pb::CopyTablePlan& plan,
                                                std::uint64_t bytes_max) {
  std::vector<apply::CopiedPart> parts;
  for (const auto& piece : plan.pieces()) {
    const std::uint64_t wanted =
        std::max<std::uint64_t>(1, (piece.bytes() + bytes_max - 1) / bytes_max);
    const std::uint64_t count = std::min(wanted, std::max<std::uint64_t>(1, piece.pages()));
    for (std::uint64_t i = 0; i < count; ++i) {
      const bool last = i + 1 == count;
      parts.push_back(
          {piece.oid(), piece.pages() * i / count, last ? 0 : piece.pages() * (i + 1) / count});
    }
  }
  return parts;
}

std::optional<std::vector<apply::CopiedPart>> missing_parts(
    const std::vector<apply::CopiedPart>& all, const std::vector<apply::CopiedPart>& done) {
  for (const auto& part : done) {
    if (!contains(all, part)) return std::nullopt;
  }
  std::vector<apply::CopiedPart> missing;
  for (const auto& part : all) {
    if (!contains(done, part)) missing.push_back(part);
  }
  return missing;
}

}  // namespace bitacora::engine
