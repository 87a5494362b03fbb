// A disk that is full, fails, or gives back other bytes: the spool says so and never hands out
// anything wrong.
#include <gtest/gtest.h>

#include <optional>
#include <random>

#include "tests/transport/crashable_storage.h"
#include "tests/transport/played_stream.h"
#include "transport/spool.h"

namespace bitacora::transport {
namespace {

constexpr auto kStart = MasterLsn{1000};  // transaction 11 comes first
constexpr std::int64_t kNow = 1'700'000'000'000'000;
constexpr std::uint64_t kSeed = 20260611;

using Disk = std::shared_ptr<CrashableDisk>;

Disk disk_of(DiskImage image = {}) { return std::make_shared<CrashableDisk>(std::move(image)); }

Result<std::unique_ptr<Spool>> try_open(const Disk& disk,
                                        std::optional<SyncedMark> mark = std::nullopt) {
  return Spool::open(open_crashable_storage(disk),
                     {.disk_reserve_bytes = 0, .frames = kPlayedLimits}, mark);
}

std::unique_ptr<Spool> open(const Disk& disk) {
  auto spool = try_open(disk);
  EXPECT_TRUE(spool.ok()) << one_line(spool.error());
  return std::move(*spool);
}

void begin(Spool& spool, MasterLsn start_lsn) {
  const auto begun = spool.begin_connection(played_identity(), start_lsn);
  ASSERT_TRUE(begun.ok()) << one_line(begun.error());
}

struct Sample {
  DiskImage image;
  SyncedMark mark;
  MasterLsn end_lsn;
};

// Segments up to transaction 60, all synced, with a relation described.
Sample sample() {
  const auto disk = disk_of();
  const auto spool = open(disk);
  begin(*spool, kStart);
  spool->describe(played_relation());
  PlayedStream stream(11, 1);
  EXPECT_TRUE(append_until(*spool, stream, 60).ok());
  EXPECT_TRUE(spool->sync().ok());
  return {disk->current(), *spool->synced_mark(), spool->end_lsn()};
}

std::string last_name(const DiskImage& image) { return image.rbegin()->first; }

void expect_state(const Error& error, std::initializer_list<std::string> says) {
  EXPECT_EQ(error.code, ErrorCode::kState) << one_line(error);
  EXPECT_FALSE(error.heals());
  EXPECT_FALSE(error.hint.empty());
  for (const auto& text : says) {
    EXPECT_NE(error.message.find(text), std::string::npos) << text << "\n" << one_line(error);
  }
}

TEST(SpoolDamage, LessThanWasSyncedIsNoTornTail) {
  const auto [image, mark, end_lsn] = sample();
  const auto last = last_name(image);
  struct Case {
    const char* name;
    DiskImage image;
    std::string says;
  };
  auto shorter = image;
  shorter[last].pop_back();
  auto flipped = image;
  flipped[last].back() = static_cast<char>(flipped[last].back() ^ 1);
  auto headless = image;
  headless[last][3] = 'x';
  auto missing = image;
  missing.erase(last);
  for (const Case& c :
       {Case{"cut", shorter, "a record's beginning only"}, Case{"bit", flipped, "wrong checksum"},
        Case{"header", headless, "header"}, Case{"last file", missing, "the file ends"},
        Case{"all files", DiskImage{}, "the file is missing"}}) {
    SCOPED_TRACE(c.name);
    const auto disk = disk_of(c.image);
    const auto opened = try_open(disk, mark);
    ASSERT_FALSE(opened.ok());
    expect_state(opened.error(), {c.says, "crashable/0", "offset ", to_string(end_lsn)});
    EXPECT_EQ(disk->current(), c.image) << "nothing is changed";
    EXPECT_TRUE(try_open(disk).ok()) << "but for the mark it looks torn";
  }
}

TEST(SpoolDamage, AMarkOfWhatWasTrimmedSinceIsNoDamage) {
  const auto [image, mark, end_lsn] = sample();
  auto trimmed = image;
  trimmed.erase(trimmed.begin());
  EXPECT_TRUE(try_open(disk_of(image), SyncedMark{1, 200, kStart}).ok());
  EXPECT_TRUE(try_open(disk_of(image), mark).ok());
}

TEST(SpoolDamage, AReaderMeetsItInAnOlderSegment) {
  const auto [image, mark, end_lsn] = sample();
  auto second = std::next(image.begin());
  struct Case {
    const char* name;
    std::size_t length;  // of the second segment
    int flip_at;         // -1: none
  };
  const auto length = second->second.size();
  for (const Case& c : {Case{"cut in a record", length - 1, -1},
                        Case{"bit in a record", length, static_cast<int>(length) - 20}}) {
    SCOPED_TRACE(c.name);
    auto bad = image;
    auto& content = bad[second->first];
    content.resize(c.length);
    if (c.flip_at >= 0) content[static_cast<std::size_t>(c.flip_at)] ^= 8;
    const auto spool = open(disk_of(bad));
    const auto reader = spool->read_from(kStart);
    ASSERT_TRUE(reader.ok());
    TransactionCollector collector(kStart);
    auto event = (*reader)->next();
    for (; event.ok() && !std::holds_alternative<SpoolTail>(*event); event = (*reader)->next()) {
      ASSERT_EQ(collector.take(*std::get<SpoolBatch>(*event).changes), std::nullopt);
    }
    ASSERT_FALSE(event.ok()) << "up to " << to_string(collector.applied());
    expect_state(event.error(), {second->first, "at offset ", "the changes after "});
  }
}

// Whole records that are missing leave no wrong checksum behind.
TEST(SpoolDamage, AnOlderSegmentCutBetweenRecordsIsNoticed) {
  const auto [image, mark, end_lsn] = sample();
  for (auto at = image.begin(); at->first != last_name(image); ++at) {
    const auto storage = open_crashable_storage(disk_of(image));
    const auto file = *storage->open(at->first);
    SegmentScanner scanner(file, read_segment_header(*file)->bytes);
    std::vector<std::uint64_t> ends{scanner.offset()};
    while (*scanner.next(at->second.size()) == Scanned::kRecord) ends.push_back(scanner.offset());
    ends.pop_back();
    for (const auto end : ends) {
      SCOPED_TRACE(testing::Message() << at->first << " cut at " << end);
      auto bad = image;
      bad[at->first].resize(end);
      const auto spool = open(disk_of(bad));
      const auto wrong = check_content(*spool, kStart);
      EXPECT_NE(wrong.value_or("").find("is damaged at offset"), std::string::npos)
          << wrong.value_or("nothing noticed");
    }
  }
}

TEST(SpoolDamage, AFlippedBitIsNeverReadAsData) {
  const auto [image, mark, end_lsn] = sample();
  std::mt19937_64 random(kSeed);
  int detected_at_open = 0;
  int detected_by_reader = 0;
  for (int round = 0; round < 1500; ++round) {
    auto bad = image;
    auto at = std::next(bad.begin(), static_cast<std::ptrdiff_t>(random() % bad.size()));
    const auto bit = random() % (8 * at->second.size());
    SCOPED_TRACE(testing::Message() << at->first << " bit " << bit);
    auto& byte = at->second[bit / 8];
    byte = static_cast<char>(byte ^ (1 << bit % 8));
    const bool marked = round % 2 == 0;
    const auto spool = try_open(disk_of(bad), marked ? std::optional(mark) : std::nullopt);
    if (!spool.ok()) {
      expect_state(spool.error(), {"spool crashable/"});
      ++detected_at_open;
      continue;
    }
    ASSERT_TRUE(!marked || (*spool)->end_lsn() == end_lsn);
    // A collector takes no wrong content: what is wrong must be the spool's own finding.
    const auto wrong = check_content(**spool, (*spool)->begin_lsn());
    if (!wrong) continue;
    EXPECT_NE(wrong->find("is damaged at offset"), std::string::npos) << *wrong;
    ++detected_by_reader;
  }
  EXPECT_GT(detected_at_open, 100);
  EXPECT_GT(detected_by_reader, 100);
}

TEST(SpoolDamage, AnotherFormatVersionIsRefusedAndLeftAlone) {
  auto image = sample().image;
  image[last_name(image)][7] = '9';
  const auto disk = disk_of(image);
  const auto opened = try_open(disk);
  ASSERT_FALSE(opened.ok());
  expect_state(opened.error(), {"another version"});
  EXPECT_EQ(disk->current(), image);
}

TEST(SpoolDamage, AnIsolatedOlderPartIsRemovedAndOtherFilesStay) {
  auto image = sample().image;
  ASSERT_GT(image.size(), 3u);
  image.erase(std::next(image.begin(), 1));
  image["notes.txt"] = "not ours";
  const auto disk = disk_of(image);
  const auto spool = open(disk);
  EXPECT_GT(spool->begin_lsn(), kStart);
  EXPECT_FALSE(disk->current().contains(image.begin()->first));
  EXPECT_TRUE(disk->current().contains("notes.txt"));
  EXPECT_EQ(check_content(*spool, spool->begin_lsn()), std::nullopt);
}

TEST(SpoolDamage, AFailedSyncBreaksItUntilItIsReopened) {
  const auto disk = disk_of();
  const auto spool = open(disk);
  begin(*spool, kStart);
  PlayedStream stream(11, 2);
  auto reader = spool->read_from(kStart);
  TransactionCollector collector(kStart);
  ASSERT_TRUE(append_until(*spool, stream, 14).ok());
  ASSERT_TRUE(spool->sync().ok());
  auto durable = spool->synced_lsn();
  // Within the segment: a new one would sync.
  while (spool->end_lsn() == durable || spool->synced_lsn() != durable) {
    durable = spool->synced_lsn();
    ASSERT_TRUE(append_frames(*spool, stream, 1).ok());
  }
  ASSERT_EQ(read_to_tail(**reader, collector), std::nullopt);
  disk->failing_syncs = 1;
  const auto failed = spool->sync();
  ASSERT_FALSE(failed.ok());
  EXPECT_NE(failed.error().message.find("Input/output error"), std::string::npos);
  EXPECT_EQ(spool->synced_lsn(), durable);
  for (const auto& refused :
       {spool->sync().ok(), spool->trim(kStart, kNow).ok(), spool->read_from(kStart).ok(),
        append_frames(*spool, stream, 1).ok(),
        spool->begin_connection(played_identity(), kStart).ok(), (*reader)->next().ok()}) {
    EXPECT_FALSE(refused);
  }
  EXPECT_TRUE(spool->sync().error().heals());
  ASSERT_TRUE(spool->reopen().ok());
  EXPECT_EQ(spool->end_lsn(), durable);
  EXPECT_EQ(disk->current().rbegin()->second.size(), spool->synced_mark()->bytes);
  begin(*spool, durable);
  PlayedStream again(last_transaction(durable) + 1, 3);
  ASSERT_TRUE(append_until(*spool, again, 40).ok());
  EXPECT_TRUE(spool->sync().ok());
  EXPECT_EQ(check_content(*spool, kStart), std::nullopt);
  EXPECT_EQ(read_to_tail(**reader, collector), std::nullopt);
  EXPECT_GE(collector.applied(), end_of_transaction(40));
}

// Else the receiver would ask for changes like one that has nothing, and get those after a gap.
TEST(SpoolDamage, AFailedBeginningStaysWhereItBegan) {
  const auto disk = disk_of();
  const auto spool = open(disk);
  begin(*spool, kStart);
  PlayedStream stream(11, 2);
  ASSERT_TRUE(append_frames(*spool, stream, 1).ok());
  disk->failing_syncs = 1;
  ASSERT_FALSE(spool->sync().ok());
  EXPECT_TRUE(spool->broken());
  ASSERT_TRUE(spool->reopen().ok());
  EXPECT_FALSE(spool->broken());
  EXPECT_EQ(spool->begin_lsn(), kStart);
  EXPECT_EQ(spool->end_lsn(), kStart);
  EXPECT_FALSE(spool->synced_mark().has_value());
}

// The syncs of a life fail one after the other: each time it heals, and nothing is lost.
TEST(SpoolDamage, EverySyncMayFail) {
  for (int failing = 0; failing < 60; ++failing) {
    SCOPED_TRACE(failing);
    const auto disk = disk_of();
    const auto spool = open(disk);
    MasterLsn promised;
    int syncs = 0;
    while (spool->end_lsn() < end_of_transaction(40)) {
      const auto end_lsn = spool->end_lsn().valid() ? spool->end_lsn() : kStart;
      ASSERT_GE(end_lsn, promised);
      begin(*spool, end_lsn);
      PlayedStream stream(last_transaction(end_lsn) + 1, static_cast<std::uint64_t>(syncs) + 9);
      while (spool->end_lsn() < end_of_transaction(40)) {
        if (++syncs == failing) {
          (failing % 3 == 0 ? disk->failing_directory_syncs : disk->failing_syncs) =
              1 + failing % 2;
        }
        if (!append_frames(*spool, stream, 2).ok()) break;
        const auto synced = spool->sync();
        if (!synced.ok()) break;
        promised = *synced;
      }
      while (!spool->reopen().ok()) continue;
    }
    EXPECT_EQ(check_content(*spool, kStart), std::nullopt);
    const auto again = open(disk_of(disk->current()));
    EXPECT_EQ(check_content(*again, kStart), std::nullopt);
  }
}

TEST(SpoolDamage, AFullDiskIsWaitedForAndLosesNothing) {
  std::uint64_t refusals = 0;
  int times_full = 0;
  for (std::uint64_t seed = 1; seed <= 30; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937_64 random(seed);
    const auto disk = disk_of();
    disk->capacity = 3500 + random() % 3500;
    const auto spool = open(disk);
    begin(*spool, kStart);
    PlayedStream stream(11, seed);
    TransactionCollector collector(kStart);
    const auto reader = spool->read_from(kStart);
    ASSERT_TRUE(reader.ok());
    int full = 0;
    while (collector.applied() < end_of_transaction(200)) {
      const auto appended = append_frames(*spool, stream, static_cast<int>(1 + random() % 200));
      ASSERT_TRUE(appended.ok()) << one_line(appended.error());
      full += *appended == 0;
      ASSERT_TRUE(spool->sync().ok());
      ASSERT_EQ(read_to_tail(**reader, collector), std::nullopt);
      ASSERT_TRUE(spool->trim(collector.applied(), kNow).ok());
      if (random() % 5 == 0 || full % 3 == 2) {
        begin(*spool, spool->end_lsn());
        stream = PlayedStream(last_transaction(spool->end_lsn()) + 1, random());
      }
      if (random() % 20 == 0) {
        begin(*spool, {collector.applied().value - 100});
        stream = PlayedStream(last_transaction(spool->end_lsn()) + 1, random());
      }
      ASSERT_LT(full, 1000) << "it stays full";
    }
    refusals += disk->quota_refusals;
    times_full += full;
  }
  EXPECT_GT(times_full, 10);
  EXPECT_GT(refusals, 0u) << "the disk itself was full, not only the reckoning";
}

}  // namespace
}  // namespace bitacora::transport
