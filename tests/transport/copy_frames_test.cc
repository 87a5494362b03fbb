#include "transport/copy_frames.h"

#include <gtest/gtest.h>

#include <numeric>
#include <random>
#include <vector>

namespace bitacora::transport {
namespace {

constexpr std::uint64_t kSeed = 20240611;
constexpr std::size_t kFrameBytes = 1000;

FrameLimits small() {
  FrameLimits limits;
  limits.raw_bytes_max = kFrameBytes;
  return limits;
}

std::string random_bytes(std::size_t bytes) {
  std::mt19937_64 random(kSeed);
  std::string made(bytes, '\0');
  for (char& c : made) c = static_cast<char>(random());
  return made;
}

TEST(CopyFrames, PiecesOfEverySizeFillFrames) {
  struct Case {
    std::string name;
    std::vector<std::size_t> pieces;
  };
  const std::vector<Case> cases{
      {"nothing", {}},
      {"an empty piece", {0}},
      {"one byte", {1}},
      {"exactly one frame", {1000}},
      {"small ones that fill one exactly", {400, 600}},
      {"one that passes a frame's end", {999, 2}},
      {"one that fills and leaves nothing", {999, 1, 1000}},
      {"many frames at once behind a rest", {7, 5432}},
      {"many frames at once, then a rest", {5000, 1, 0, 1}},
      {"rows", std::vector<std::size_t>(500, 37)},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    const auto whole =
        random_bytes(std::accumulate(c.pieces.begin(), c.pieces.end(), std::size_t{0}));
    FrameDecoder decoder(small());
    std::string arrived;
    std::size_t count = 0;
    CopyFrames frames(1, small(), [&](const pb::Frame& frame) -> Result<void> {
      ++count;
      EXPECT_FALSE(frame.more());
      const auto complete = decoder.decode(frame);
      EXPECT_TRUE(complete.ok());
      arrived += decoder.batch();
      return {};
    });
    std::string_view left = whole;
    for (const std::size_t bytes : c.pieces) {
      EXPECT_TRUE(frames.add(left.substr(0, bytes)).ok());
      left.remove_prefix(bytes);
    }
    EXPECT_EQ(arrived.size(), whole.size() / kFrameBytes * kFrameBytes) << "only full frames yet";
    EXPECT_TRUE(frames.flush().ok());
    EXPECT_EQ(arrived, whole);
    EXPECT_EQ(count, (whole.size() + kFrameBytes - 1) / kFrameBytes);
  }
}

TEST(CopyFrames, AnErrorOfSendingEndsIt) {
  int sent = 0;
  CopyFrames frames(1, small(), [&](const pb::Frame&) -> Result<void> {
    return ++sent < 2 ? Result<void>{} : Error{ErrorCode::kNetwork, "gone"};
  });
  const auto added = frames.add(random_bytes(5 * kFrameBytes));
  ASSERT_FALSE(added.ok());
  EXPECT_EQ(added.error().message, "gone");
  EXPECT_EQ(sent, 2);
}

TEST(CopyFrames, AContextEndsEveryFewMegabytes) {
  auto limits = small();
  limits.level_bytes = 10 * kFrameBytes;
  std::vector<int> resets;
  int number = 0;
  CopyFrames frames(1, limits, [&](const pb::Frame& frame) -> Result<void> {
    if (frame.context_reset()) resets.push_back(number);
    ++number;
    return {};
  });
  ASSERT_TRUE(frames.add(random_bytes(50 * kFrameBytes)).ok());
  ASSERT_GE(resets.size(), 3u) << "another level would have to wait for long";
  EXPECT_EQ(resets.front(), 0);
}

}  // namespace
}  // namespace bitacora::transport
