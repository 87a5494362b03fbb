// Parts of transactions in progress, beside the spool.
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <fstream>

#include "tests/transport/spool_directory.h"

namespace bitacora::transport {
namespace {

StreamedFrame frame(std::uint32_t xid, std::uint64_t sequence, std::size_t bytes = 100) {
  StreamedFrame streamed;
  streamed.xid = xid;
  streamed.frame.set_sequence(sequence);
  streamed.frame.set_context_reset(sequence == 1);
  streamed.frame.set_payload(std::string(bytes, 'x'));
  return streamed;
}

void append(Spool& spool, const StreamedFrame& streamed) {
  const auto appended = spool.append_streamed(streamed);
  ASSERT_TRUE(appended.ok()) << one_line(appended.error());
  ASSERT_EQ(appended->outcome, Appended::kAppended);
}

// The sequence numbers of what is left.
std::vector<std::uint64_t> taken(Spool& spool, std::uint32_t xid) {
  std::vector<std::uint64_t> sequences;
  while (auto next = *spool.take_streamed(xid)) sequences.push_back(next->sequence());
  return sequences;
}

using Sequences = std::vector<std::uint64_t>;

TEST_F(SpoolTest, StreamedFramesAreTakenInOrderAndOnce) {
  const auto spool = begun();
  for (std::uint64_t i = 1; i <= 3; ++i) {
    append(*spool, frame(7, i));
    append(*spool, frame(8, i));
  }
  EXPECT_EQ(files().size(), 2u);
  EXPECT_GT(spool->bytes(), 600u);
  EXPECT_EQ(taken(*spool, 7), (Sequences{1, 2, 3}));
  EXPECT_EQ(taken(*spool, 7), Sequences());
  append(*spool, frame(7, 1));
  EXPECT_EQ(taken(*spool, 7), Sequences{1}) << "a transaction ID comes again";
  EXPECT_EQ(taken(*spool, 8), (Sequences{1, 2, 3}));
  EXPECT_TRUE(files().empty());
  EXPECT_EQ(spool->bytes(), 0u);
}

// So that a large transaction is not on disk twice.
TEST_F(SpoolTest, AFileOfStreamedFramesGoesWhenItIsRead) {
  const auto spool = begun();
  for (int context = 0; context < 3; ++context) {
    for (std::uint64_t i = 1; i <= 20; ++i) append(*spool, frame(7, i, 1'000'000));
  }
  ASSERT_EQ(files().size(), 3u);
  for (int i = 0; i < 21; ++i) ASSERT_TRUE(spool->take_streamed(7)->has_value());
  EXPECT_EQ(files().size(), 2u);
  EXPECT_EQ(taken(*spool, 7).size(), 39u);
}

TEST_F(SpoolTest, StreamedFramesEndWithTheirTransactionOrTheirConnection) {
  const auto spool = begun();
  for (const std::uint32_t xid : {7u, 8u, 9u}) append(*spool, frame(xid, 1));
  ASSERT_TRUE(spool->drop_streamed(8).ok());
  EXPECT_EQ(files().size(), 2u);
  begin(*spool, kStart);
  EXPECT_TRUE(files().empty());
  EXPECT_EQ(taken(*spool, 7), Sequences());
}

TEST_F(SpoolTest, StreamedFramesOfAKilledReceiverAreRemoved) {
  { append(*begun(), frame(7, 1)); }
  EXPECT_EQ(files().size(), 1u);
  begun();
  EXPECT_TRUE(files().empty());
}

TEST_F(SpoolTest, StreamedFramesTakeOfTheSpoolsSize) {
  auto small = options();
  small.bytes_max = 500;
  const auto spool = begun(small);
  append(*spool, frame(7, 1));
  EXPECT_EQ(spool->append_streamed(frame(7, 2, 600))->outcome, Appended::kFull);
  ASSERT_TRUE(spool->trim(kStart, kNow).ok());
  append(*spool, frame(7, 2, 600));  // all is applied: waiting would free nothing
  EXPECT_EQ(taken(*spool, 7), (Sequences{1, 2}));
}

TEST_F(SpoolTest, ADamagedFileOfStreamedFramesBreaksTheConnectionOnly) {
  const auto spool = begun();
  append(*spool, frame(7, 1));
  std::ofstream(directory_ / "spool" / *files().begin(), std::ios::in).seekp(20) << "damage";
  const auto refused = spool->take_streamed(7);
  ASSERT_FALSE(refused.ok());
  EXPECT_TRUE(refused.error().heals());
  ASSERT_TRUE(spool->reopen().ok());
  begin(*spool, kStart);
  EXPECT_TRUE(files().empty());
}

}  // namespace
}  // namespace bitacora::transport
