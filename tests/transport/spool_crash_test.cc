// Crashes anywhere in random schedules: what was synced is there, what is read is what was sent.
// BITACORA_SEED=n plays one schedule again.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <random>
#include <vector>

#include "tests/transport/crashable_storage.h"
#include "tests/transport/played_stream.h"
#include "transport/spool.h"

namespace bitacora::transport {
namespace {

constexpr int kSchedules = 500;
constexpr int kImagesPerSchedule = 20;
constexpr int kSteps = 40;

std::vector<std::uint64_t> seeds() {
  if (const char* seed = std::getenv("BITACORA_SEED")) return {std::strtoull(seed, nullptr, 10)};
  std::vector<std::uint64_t> all;
  for (std::uint64_t seed = 1; seed <= kSchedules; ++seed) all.push_back(seed);
  return all;
}

// What a crash may not take, from the moment the disk has seen so many operations.
struct Promise {
  std::size_t operations = 0;
  MasterLsn end_at_least;
  MasterLsn begin_at_most;
  std::optional<SyncedMark> mark;
};

// Plays a receiver's life on a disk and notes what it may rely on.
class Schedule {
 public:
  Schedule(DiskImage image, Promise promise, std::uint64_t seed)
      : random_(seed), disk_(std::make_shared<CrashableDisk>(std::move(image))) {
    promise_ = promise;
    promise_.operations = 0;
    promises_.push_back(promise_);
    open();
  }

  bool opened() const { return spool_ != nullptr; }
  Spool& spool() { return *spool_; }

  void run(int steps) {
    begin_connection();
    for (int step = 0; step < steps && !testing::Test::HasFailure(); ++step) act();
  }

  // As a crash may leave it, and what must then hold.
  std::pair<DiskImage, Promise> crash() {
    const auto operations = random_() % (disk_->operations() + 1);
    const auto after = std::find_if(promises_.begin(), promises_.end(),
                                    [&](const Promise& p) { return p.operations > operations; });
    return {disk_->crash(operations, random_), *std::prev(after)};
  }

  MasterLsn position_inside() {
    const auto begin = spool_->begin_lsn().value;
    return {begin + random_() % (spool_->end_lsn().value - begin + 1)};
  }

 private:
  SpoolOptions options() {
    return {.disk_reserve_bytes = 0,
            .keep_time = std::chrono::hours(random_() % 2),
            .keep_bytes = random_() % 5000,
            .frames = kPlayedLimits};
  }

  // What it finds it has made durable.
  void open() {
    spool_ = nullptr;
    auto opened = Spool::open(open_crashable_storage(disk_), options(), promise_.mark);
    ASSERT_TRUE(opened.ok()) << one_line(opened.error());
    spool_ = std::move(*opened);
    promise(std::max(promise_.end_at_least, spool_->synced_lsn()), promise_.begin_at_most);
  }

  // The process is killed, the machine goes on: what was written is there and not yet durable.
  void be_killed() {
    open();
    if (spool_) begin_connection();
  }

  void act() {
    switch (random_() % 12) {
      case 5:
        if (random_() % 3 == 0) return be_killed();
        return sync();
      case 0:
      case 1:
      case 2:
        return sync();
      case 3:
        return begin_connection();
      case 4:
        return trim();
      default: {
        const auto done = append_frames(*spool_, *stream_, static_cast<int>(1 + random_() % 12));
        EXPECT_TRUE(done.ok()) << one_line(done.error());
      }
    }
  }

  void promise(MasterLsn end_at_least, MasterLsn begin_at_most) {
    promise_ = {disk_->operations(), end_at_least, begin_at_most, promise_.mark};
    promises_.push_back(promise_);
  }

  void sync() {
    const auto synced = spool_->sync();
    ASSERT_TRUE(synced.ok()) << one_line(synced.error());
    EXPECT_LE(*synced, spool_->end_lsn());
    // The checkpoint is not written every time.
    if (random_() % 2 == 0) promise_.mark = spool_->synced_mark();
    promise(*synced, promise_.begin_at_most);
  }

  void begin_connection() {
    const auto end_lsn = spool_->end_lsn();
    auto start = end_lsn;
    if (!end_lsn.valid()) start = end_of_transaction(10);
    if (random_() % 10 == 0) start = end_of_transaction(last_transaction(start) + random_() % 5);
    if (random_() % 10 == 0) start = end_of_transaction(last_transaction(start) - random_() % 5);
    const bool anew = start != end_lsn || !spool_->identity();
    const auto begun = spool_->begin_connection(played_identity(), start);
    ASSERT_TRUE(begun.ok()) << one_line(begun.error());
    EXPECT_EQ(spool_->end_lsn(), start);
    if (anew) {
      promise(std::min(promise_.end_at_least, start), std::max(promise_.begin_at_most, start));
    }
    spool_->describe(played_relation());
    // What it already had comes again, as long as the spool is not behind it.
    const auto repeated = anew ? 0 : random_() % 3;
    const auto first = last_transaction(start) + 1;
    stream_.emplace(first > repeated ? first - repeated : first, random_());
  }

  void trim() {
    const auto applied = position_inside();
    promise(promise_.end_at_least, std::max(promise_.begin_at_most, applied));
    const auto trimmed = spool_->trim(applied, 1'700'000'000'000'000);
    ASSERT_TRUE(trimmed.ok()) << one_line(trimmed.error());
    EXPECT_LE(spool_->begin_lsn(), promise_.begin_at_most);
  }

  std::mt19937_64 random_;
  std::shared_ptr<CrashableDisk> disk_;
  std::unique_ptr<Spool> spool_;
  std::optional<PlayedStream> stream_;
  Promise promise_;
  std::vector<Promise> promises_;
};

void expect_kept(Schedule& recovered, const Promise& promise) {
  ASSERT_TRUE(recovered.opened());
  Spool& spool = recovered.spool();
  EXPECT_GE(spool.end_lsn(), promise.end_at_least);
  if (spool.identity()) {
    EXPECT_LE(spool.begin_lsn(), promise.begin_at_most);
  }
  for (const auto position : {spool.begin_lsn(), recovered.position_inside()}) {
    const auto wrong = check_content(spool, position);
    EXPECT_FALSE(wrong) << "from " << to_string(position) << ": " << wrong.value_or("");
  }
}

// A crash, a recovery, perhaps a crash within it, and on it goes.
void live_on(Schedule& schedule, std::uint64_t seed, int lives) {
  auto [image, promise] = schedule.crash();
  Schedule recovered(image, promise, seed);
  expect_kept(recovered, promise);
  if (testing::Test::HasFailure() || lives == 0) return;
  recovered.run(static_cast<int>(seed % 4) * 5);
  if (!testing::Test::HasFailure()) live_on(recovered, seed + 1, lives - 1);
}

TEST(SpoolCrash, WhatWasSyncedSurvivesAndWhatIsReadWasSent) {
  for (const auto seed : seeds()) {
    SCOPED_TRACE(testing::Message() << "BITACORA_SEED=" << seed);
    Schedule schedule({}, {}, seed);
    schedule.run(kSteps);
    for (std::uint64_t image = 0; image < kImagesPerSchedule; image += 2) {
      if (HasFailure()) return;
      live_on(schedule, seed * 1000 + image, 1);
    }
  }
}

using Disk = std::shared_ptr<CrashableDisk>;

Result<std::unique_ptr<Spool>> open(const Disk& disk) {
  return Spool::open(open_crashable_storage(disk),
                     {.disk_reserve_bytes = 0, .frames = kPlayedLimits}, std::nullopt);
}

// Three transactions and one that stays open over several segments.
std::unique_ptr<Spool> leave_a_transaction_open(const Disk& disk, std::uint64_t seed) {
  auto spool = std::move(*open(disk));
  EXPECT_TRUE(spool->begin_connection(played_identity(), end_of_transaction(10)).ok());
  PlayedStream stream(11, seed, {.raw_bytes_max = 100, .window_log_max = 10, .context_bytes = 50});
  EXPECT_TRUE(append_until(*spool, stream, 13).ok());
  while (!stream.front().in_transaction_after || spool->end_lsn() < end_of_transaction(13)) {
    EXPECT_TRUE(append_frames(*spool, stream, 1).ok());
  }
  while (stream.front().in_transaction_after) EXPECT_TRUE(append_frames(*spool, stream, 1).ok());
  return spool;
}

// Whole segments are cut off, by a recovery and by a new connection, and a crash comes between.
TEST(SpoolCrash, WhatIsCutOffLeavesNoHole) {
  DiskImage image;
  MasterLsn end_lsn;
  std::uint64_t seed = 0;
  for (std::size_t cut_off = 0; cut_off < 3;) {
    auto disk = std::make_shared<CrashableDisk>();
    leave_a_transaction_open(disk, ++seed);
    image = disk->current();
    disk = std::make_shared<CrashableDisk>(image);
    end_lsn = std::move(*open(disk))->end_lsn();
    cut_off = image.size() - disk->current().size();
  }
  std::mt19937_64 random(1);
  for (int round = 0; round < 600; ++round) {
    SCOPED_TRACE(round);
    const bool recovering = round % 2 == 0;
    const auto disk = std::make_shared<CrashableDisk>(recovering ? image : DiskImage{});
    const auto spool = recovering ? std::move(*open(disk)) : leave_a_transaction_open(disk, seed);
    ASSERT_TRUE(spool->sync().ok());
    const auto before = recovering ? 0 : disk->operations();
    ASSERT_TRUE(spool->begin_connection(played_identity(), end_lsn).ok());
    PlayedStream stream(last_transaction(end_lsn) + 1, random());
    ASSERT_TRUE(append_frames(*spool, stream, 20).ok());
    const auto operations = before + random() % (disk->operations() - before);
    const auto crashed = open(std::make_shared<CrashableDisk>(disk->crash(operations, random)));
    ASSERT_TRUE(crashed.ok()) << one_line(crashed.error());
    EXPECT_GE((*crashed)->end_lsn(), end_lsn);
    ASSERT_EQ(check_content(**crashed, end_of_transaction(10)), std::nullopt);
  }
}

}  // namespace
}  // namespace bitacora::transport
