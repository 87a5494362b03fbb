#include "tests/transport/copy_calls_under_test.h"

#include <algorithm>
#include <random>
#include <stdexcept>
#include <utility>

namespace bitacora::transport {

void not_waiting(const std::string& what) { ADD_FAILURE() << what; }

std::string random_bytes(std::size_t bytes, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::string made;
  made.reserve(bytes + sizeof(std::uint64_t));
  while (made.size() < bytes) {
    const std::uint64_t eight = random();
    made.append(reinterpret_cast<const char*>(&eight), sizeof(eight));
  }
  made.resize(bytes);
  return made;
}

pb::CopyPartEnd ended(std::uint64_t rows, std::uint64_t bytes) {
  pb::CopyPartEnd end;
  end.set_rows(rows);
  end.set_bytes(bytes);
  return end;
}

PlayedCopySource::Read plays(std::string content, std::size_t piece_bytes) {
  return [content = std::move(content), piece_bytes](PlayedCopySource::Parts&, const pb::CopyPart&,
                                                     const CopySink& sink,
                                                     const OnWaiting&) -> Result<pb::CopyPartEnd> {
    std::uint64_t rows = 0;
    for (std::string_view left = content; !left.empty(); ++rows) {
      RETURN_IF_ERROR(sink(left.substr(0, piece_bytes)));
      left.remove_prefix(std::min(piece_bytes, left.size()));
    }
    return ended(rows, content.size());
  };
}

ReadPart read(CopyParts& parts, const pb::CopyPart& part) {
  ReadPart read{Error{}};
  read.end = parts.read(
      part,
      [&](std::string_view piece) -> Result<void> {
        read.content += piece;
        read.largest_piece = std::max(read.largest_piece, piece.size());
        return {};
      },
      not_waiting);
  return read;
}

CopyCallsTest::CopyCallsTest() {
  SenderOptions options;
  options.copies = &source_;
  sender_.emplace(options);
  auto dialled = CopyClient::dial(sender_->address(), {});
  if (!dialled.ok()) throw std::runtime_error(one_line(dialled.error()));
  client_ = std::move(dialled).value();
}

std::unique_ptr<CopyParts> CopyCallsTest::open() const {
  auto opened = client_->open({});
  if (!opened.ok()) throw std::runtime_error(one_line(opened.error()));
  return std::move(opened).value();
}

}  // namespace bitacora::transport
