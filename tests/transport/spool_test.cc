// What a spool does on a real directory.
#include "transport/spool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>

#include "tests/transport/played_stream.h"
#include "tests/transport/spool_directory.h"

namespace bitacora::transport {
namespace {

namespace fs = std::filesystem;

TEST_F(SpoolTest, AnEmptyOneHasNoIdentityAndMakesNoFile) {
  const auto spool = begun();
  EXPECT_EQ(spool->end_lsn(), kStart);
  EXPECT_EQ(spool->begin_lsn(), kStart);
  EXPECT_EQ(spool->bytes(), 0u);
  EXPECT_EQ(spool->synced_mark(), std::nullopt);
  EXPECT_TRUE(files().empty());
  EXPECT_FALSE(open()->identity().has_value());
}

TEST_F(SpoolTest, WhatWasAppendedComesBackAfterARestart) {
  PlayedStream stream(11, 1);
  MasterLsn end_lsn;
  {
    const auto spool = begun();
    append_through(*spool, stream, 60);
    sync(*spool);
    end_lsn = spool->end_lsn();
    EXPECT_GT(files().size(), 3u) << "a reset begins a segment";
    expect_content(*spool, kStart);
  }
  const auto spool = open();
  EXPECT_EQ(spool->end_lsn(), end_lsn);
  EXPECT_EQ(spool->synced_lsn(), end_lsn);
  EXPECT_EQ(spool->identity()->database(), "tienda");
  for (std::uint64_t position = 1000; position <= end_lsn.value; position += 70) {
    expect_content(*spool, {position});
  }
  begin(*spool, end_lsn);
  PlayedStream next(last_transaction(end_lsn) + 1, 2);
  append_through(*spool, next, 90);
  expect_content(*spool, kStart);
}

TEST_F(SpoolTest, AReaderFollowsTheWriter) {
  const auto spool = begun();
  PlayedStream stream(11, 3);
  auto reader = spool->read_from(kStart);
  ASSERT_TRUE(reader.ok());
  TransactionCollector collector(kStart);
  EXPECT_EQ(read_to_tail(**reader, collector), std::nullopt) << "before the first segment";
  for (std::uint64_t number = 11; number < 60; ++number) {
    append_through(*spool, stream, number);
    EXPECT_EQ(read_to_tail(**reader, collector), std::nullopt);
    EXPECT_GE(collector.applied(), end_of_transaction(number));
  }
}

TEST_F(SpoolTest, AReaderLearnsFirstWhatTheConnectionDescribed) {
  const auto spool = begun();
  pb::Type type;
  type.set_oid(20000);
  type.set_name("mood");
  spool->describe(type);
  spool->describe(played_relation());
  PlayedStream stream(11, 4);
  append_through(*spool, stream, 20);
  const auto reader = spool->read_from(spool->end_lsn());
  ASSERT_TRUE(reader.ok());
  const auto event = (*reader)->next();
  ASSERT_TRUE(event.ok() && std::holds_alternative<SpoolBatch>(*event));
  const auto& parts = std::get<SpoolBatch>(*event).changes->parts();
  ASSERT_EQ(parts.size(), 2);
  EXPECT_EQ(parts[0].type().name(), "mood");
  EXPECT_EQ(parts[1].relation().name(), "datos");
  begin(*spool, spool->end_lsn());
  const auto end_lsn = spool->end_lsn();
  PlayedStream next(last_transaction(end_lsn) + 1, 5);
  append_through(*spool, next, last_transaction(end_lsn) + 1);
  const auto anew = spool->read_from(end_lsn);
  ASSERT_TRUE(anew.ok());
  const auto first = (*anew)->next();
  ASSERT_TRUE(first.ok() && std::holds_alternative<SpoolBatch>(*first));
  EXPECT_FALSE(std::get<SpoolBatch>(*first).changes->parts(0).has_type())
      << "another connection's descriptions are not carried over";
}

// The frames of transaction 14, a large one, up to before its end, and how many segments they
// begin.
std::pair<std::vector<pb::Frame>, int> open_transaction(std::uint64_t seed) {
  PlayedStream stream(14, seed, {.raw_bytes_max = 100, .window_log_max = 10, .context_bytes = 100});
  std::pair<std::vector<pb::Frame>, int> result{{}, 0};
  auto& [frames, segments] = result;
  for (; frames.empty() || stream.front().in_transaction_after; stream.pop()) {
    frames.push_back(stream.front().frame);
    segments += frames.back().context_reset();
  }
  return result;
}

TEST_F(SpoolTest, ANewConnectionCutsTheOpenTransactionOffAndTheReaderHearsItOnce) {
  for (std::uint64_t seed = 1; seed < 20; ++seed) {
    SCOPED_TRACE(seed);
    fs::remove_all(directory_ / "spool");
    const auto spool = begun();
    PlayedStream stream(11, seed);
    auto reader = spool->read_from(kStart);
    TransactionCollector collector(kStart);
    append_through(*spool, stream, 13);
    while (!stream.front().in_transaction_after) ASSERT_TRUE(append_frames(*spool, stream, 1).ok());
    ASSERT_TRUE(append_frames(*spool, stream, static_cast<int>(seed % 7) + 1).ok());
    ASSERT_EQ(read_to_tail(**reader, collector), std::nullopt);
    const bool was_open = collector.in_transaction();
    const auto bytes = spool->bytes();
    begin(*spool, spool->end_lsn());
    const bool cut = spool->bytes() < bytes;
    int abandoned = 0;
    while (true) {
      const auto event = (*reader)->next();
      ASSERT_TRUE(event.ok()) << one_line(event.error());
      if (std::holds_alternative<SpoolTail>(*event)) break;
      ASSERT_TRUE(std::holds_alternative<SpoolAbandoned>(*event));
      ++abandoned;
    }
    EXPECT_EQ(abandoned, cut ? 1 : 0);
    EXPECT_TRUE(cut || !was_open);
    collector.abandon();
    PlayedStream again(last_transaction(spool->end_lsn()) + 1, seed + 100);
    append_through(*spool, again, 40);
    EXPECT_EQ(read_to_tail(**reader, collector), std::nullopt);
    EXPECT_EQ(last_transaction(collector.applied()), last_transaction(spool->end_lsn()));
    expect_content(*spool, kStart);
  }
}

TEST_F(SpoolTest, SegmentsInsideOneOpenTransactionGoWithIt) {
  std::uint64_t seed = 1;
  while (open_transaction(seed).second < 4) ++seed;
  {
    const auto spool = begun();
    PlayedStream stream(11, 6);
    append_through(*spool, stream, 12);
    begin(*spool, end_of_transaction(13));
    begin(*spool, spool->end_lsn());
    bool in_transaction = false;
    for (const auto& frame : open_transaction(seed).first) {
      in_transaction = in_transaction || !frame.more();
      ASSERT_TRUE(spool->append(frame, in_transaction, kNow).ok());
    }
    sync(*spool);
  }
  const auto before = files().size();
  ASSERT_GE(before, 4u);
  const auto spool = open();
  EXPECT_EQ(spool->end_lsn(), end_of_transaction(13));
  ASSERT_EQ(files().size(), 1u) << "the one that begins with the transaction stays";
  EXPECT_EQ(fs::file_size(directory_ / "spool" / *files().begin()), spool->bytes());
  expect_content(*spool, end_of_transaction(13));
}

TEST_F(SpoolTest, ElsewhereItBeginsAnew) {
  for (const std::uint64_t number : {5u, 15u, 90u}) {
    SCOPED_TRACE(number);
    fs::remove_all(directory_ / "spool");
    const auto spool = begun();
    PlayedStream stream(11, 7);
    append_through(*spool, stream, 30);
    auto reader = spool->read_from(kStart);
    const auto old_files = files();
    const auto start_lsn = end_of_transaction(number);
    begin(*spool, start_lsn);
    EXPECT_EQ(spool->begin_lsn(), start_lsn);
    EXPECT_EQ(spool->end_lsn(), start_lsn);
    EXPECT_EQ(spool->bytes(), 0u);
    EXPECT_EQ(files(), old_files) << "until something of the new beginning is durable";
    PlayedStream next(number + 1, 8);
    append_through(*spool, next, number + 10);
    for (const auto& name : old_files) EXPECT_FALSE(files().contains(name)) << name;
    expect_content(*spool, start_lsn);
    TransactionCollector collector(kStart);
    const auto wrong = read_to_tail(**reader, collector);
    if (start_lsn <= kStart) {
      EXPECT_EQ(wrong, std::nullopt);
    } else {
      EXPECT_NE(wrong.value_or("").find("the changes after 0/3E8 up to there are missing"),
                std::string::npos)
          << wrong.value_or("");
    }
    sync(*spool);
    expect_content(*open(), start_lsn);
  }
}

TEST_F(SpoolTest, AForeignSenderIsNamedWithOurs) {
  const auto spool = begun();
  auto foreign = played_identity();
  foreign.set_system_identifier(9999);
  expect_state(spool->begin_connection(foreign, kStart), {"system 7012", "system 9999"});
}

TEST_F(SpoolTest, SegmentsOfTwoStreamsAreNamed) {
  {
    const auto spool = begun();
    PlayedStream stream(11, 9);
    append_through(*spool, stream, 20);
  }
  auto foreign = played_identity();
  foreign.set_database("otra");
  pb::SpoolHeader header;
  *header.mutable_identity() = foreign;
  header.set_number(files().size() + 1);
  header.set_start_lsn(99999);
  std::ofstream(directory_ / "spool" / segment_name(header.number()))
      << encode_segment_header(header);
  expect_state(try_open(), {"database tienda", "database otra"});
}

TEST_F(SpoolTest, FramesThatBreakARuleAreRefused) {
  PlayedStream stream(11, 10);
  const auto first = stream.front().frame;
  const auto unbegun = open();
  EXPECT_FALSE(unbegun->append(first, false, kNow).ok()) << "no connection has begun";
  const auto spool = begun();
  auto frame = first;
  frame.set_context_reset(false);
  EXPECT_FALSE(spool->append(frame, false, kNow).ok()) << "the first one must reset";
  frame = first;
  frame.set_more(false);
  frame.set_end_lsn(1100);
  EXPECT_FALSE(spool->append(frame, true, kNow).ok()) << "a position inside a transaction";
  frame.set_payload(std::string(kSegmentRecordBytesMax, 'x'));
  const auto large = spool->append(frame, false, kNow);
  ASSERT_FALSE(large.ok());
  EXPECT_TRUE(large.error().heals());
  EXPECT_TRUE(append_frames(*spool, stream, 10).ok()) << "a refusal breaks nothing";
}

TEST_F(SpoolTest, APositionBeforeItIsNamedAsAGap) {
  const auto spool = begun();
  PlayedStream stream(11, 15);
  append_through(*spool, stream, 20);
  expect_state(spool->read_from({999}), {"begins at 0/3E8", "the changes after 0/3E7"});
}

TEST_F(SpoolTest, ReadingGoesOnBehindEveryPlace) {
  const auto spool = begun();
  PlayedStream stream(11, 16);
  append_through(*spool, stream, 40);
  auto reader = spool->read_from(kStart);
  std::vector<SpoolBatch> batches;
  for (auto event = (*reader)->next(); std::holds_alternative<SpoolBatch>(*event);
       event = (*reader)->next()) {
    batches.push_back(std::get<SpoolBatch>(*event));
  }
  ASSERT_GT(batches.size(), 30u);
  for (std::size_t i = 0; i < batches.size(); ++i) {
    SCOPED_TRACE(i);
    const auto after = spool->read_after(batches[i].place);
    ASSERT_TRUE(after.ok()) << one_line(after.error());
    const auto event = (*after)->next();
    ASSERT_TRUE(event.ok()) << one_line(event.error());
    if (i + 1 == batches.size()) {
      EXPECT_TRUE(std::holds_alternative<SpoolTail>(*event));
    } else {
      ASSERT_TRUE(std::holds_alternative<SpoolBatch>(*event));
      const auto& batch = std::get<SpoolBatch>(*event);
      EXPECT_EQ(batch.place.bytes, batches[i + 1].place.bytes);
      EXPECT_EQ(batch.changes->SerializeAsString(), batches[i + 1].changes->SerializeAsString());
    }
  }
}

TEST_F(SpoolTest, APlaceThatWasCutOffIsAbandoned) {
  const auto spool = begun();
  PlayedStream stream(11, 17);
  append_through(*spool, stream, 14);
  while (!stream.front().in_transaction_after) ASSERT_TRUE(append_frames(*spool, stream, 1).ok());
  const auto appended = spool->append(stream.front().frame, true, kNow);
  ASSERT_TRUE(appended.ok());
  ASSERT_EQ(appended->outcome, Appended::kAppended);
  const auto made_before = spool->read_after(appended->place);
  begin(*spool, spool->end_lsn());
  PlayedStream again(last_transaction(spool->end_lsn()) + 1, 18);
  append_through(*spool, again, 20);
  const auto made_after = spool->read_after(appended->place);
  for (const auto* reader : {&made_before, &made_after}) {
    ASSERT_TRUE(reader->ok());
    const auto event = (**reader)->next();
    ASSERT_TRUE(event.ok()) << one_line(event.error());
    EXPECT_TRUE(std::holds_alternative<SpoolAbandoned>(*event));
    TransactionCollector collector(appended->place.reached);
    EXPECT_EQ(read_to_tail(***reader, collector), std::nullopt);
    EXPECT_GE(collector.applied(), end_of_transaction(20));
  }
}

TEST_F(SpoolTest, ASegmentRemovedUnderItsReaderStaysReadable) {
  const auto spool = begun();
  PlayedStream stream(11, 19);
  append_through(*spool, stream, 14);
  auto reader = spool->read_from(kStart);
  TransactionCollector collector(kStart);
  append_through(*spool, stream, 40);
  ASSERT_TRUE(spool->trim(end_of_transaction(39), kNow).ok());
  ASSERT_GT(spool->begin_lsn(), kStart);
  const auto event = (*reader)->next();
  ASSERT_TRUE(event.ok()) << one_line(event.error());
  EXPECT_EQ(collector.take(*std::get<SpoolBatch>(*event).changes), std::nullopt);
}

TEST_F(SpoolTest, WithoutSyncOnlyThePositionMoves) {
  auto unsynced = options();
  unsynced.sync = false;
  const auto spool = begun(unsynced);
  PlayedStream stream(11, 20);
  append_through(*spool, stream, 30);
  sync(*spool);
  EXPECT_EQ(spool->synced_lsn(), spool->end_lsn());
}

TEST_F(SpoolTest, OneWritesOneSyncsOneReadsAndTrims) {
  auto small = options();
  small.bytes_max = 20000;
  const auto spool = begun(small);
  constexpr std::uint64_t kLast = 600;
  std::atomic<bool> done = false;
  std::jthread syncing([&] {
    while (!done) EXPECT_TRUE(spool->sync().ok());
  });
  std::jthread writing([&] {
    std::uint64_t connections = 0;
    while (spool->end_lsn() < end_of_transaction(kLast)) {
      const auto end_lsn = spool->end_lsn();
      ASSERT_TRUE(spool->begin_connection(played_identity(), end_lsn).ok());
      PlayedStream stream(last_transaction(end_lsn) + 1, ++connections);
      for (int frames = 0; frames < 300; ++frames) {
        const auto appended = append_frames(*spool, stream, 1);
        ASSERT_TRUE(appended.ok()) << one_line(appended.error());
      }
    }
    done = true;
  });
  auto reader = spool->read_from(kStart);
  ASSERT_TRUE(reader.ok());
  TransactionCollector collector(kStart);
  while (collector.applied() < end_of_transaction(kLast) && !HasFailure()) {
    ASSERT_EQ(read_to_tail(**reader, collector), std::nullopt);
    ASSERT_TRUE(spool->trim(collector.applied(), kNow).ok());
    ASSERT_LE(spool->bytes(), 2 * small.bytes_max);
  }
}

}  // namespace
}  // namespace bitacora::transport
