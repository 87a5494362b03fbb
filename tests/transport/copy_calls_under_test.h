// What the tests of the copy calls have in common: a client that is connected to a sender with a
// played source.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>

#include "tests/transport/played_copy_source.h"
#include "tests/transport/sender_under_test.h"
#include "transport/copy_client.h"

namespace bitacora::transport {

inline constexpr std::size_t kMegabyte = 1u << 20;

// Fails the test that is told to wait.
void not_waiting(const std::string& what);

std::string random_bytes(std::size_t bytes, std::uint64_t seed = 20240611);

pb::CopyPartEnd ended(std::uint64_t rows, std::uint64_t bytes);

// Parts of this content, in pieces of this size as rows.
PlayedCopySource::Read plays(std::string content, std::size_t piece_bytes);

struct ReadPart {
  Result<pb::CopyPartEnd> end;
  std::string content = {};
  std::size_t largest_piece = 0;
};

ReadPart read(CopyParts& parts, const pb::CopyPart& part = {});

// What connects throws when it cannot.
class CopyCallsTest : public testing::Test {
 protected:
  CopyCallsTest();
  std::unique_ptr<CopyParts> open() const;

  PlayedCopySource source_;
  std::optional<SenderUnderTest> sender_;
  std::unique_ptr<CopyClient> client_;
};

}  // namespace bitacora::transport
