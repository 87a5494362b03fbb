// The file system of --data-dir full, again and again: the receiver stops reading and goes on by
// itself when there is room. Nothing is lost, nobody has to do anything but make room.
//   BITACORA_DISK_FULL_CYCLES (3)
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <optional>
#include <pqxx/pqxx>
#include <thread>

#include <fmt/format.h>

#include "apply/checkpoint.h"
#include "tests/engine/refusal.h"
#include "tests/engine/small_disk.h"
#include "tests/postgres/database.h"

namespace bitacora::harness {
namespace {

// Room for more than the two segments that must be there before the older one can go.
constexpr std::uint64_t kDiskBytes = 56u << 20;
constexpr std::uint64_t kReserveBytes = 8u << 20;
constexpr std::chrono::seconds kFullWithin{60};
constexpr std::chrono::seconds kAppliedWithin{120};

int cycles() {
  const char* text = std::getenv("BITACORA_DISK_FULL_CYCLES");
  return text != nullptr ? std::atoi(text) : 3;
}

void check(const Result<void>& done) {
  if (!done.ok()) throw std::runtime_error(one_line(done.error()));
}

class DiskFull : public testing::Test {
 protected:
  void SetUp() override {
    if (!can_mount()) GTEST_SKIP() << "mounting a small file system needs root";
    PairOptions options;
    options.receiver_arguments = {"--spool-disk-reserve", std::to_string(kReserveBytes),
                                  "--spool-keep-time",    "0",
                                  "--spool-keep-size",    "0"};
    pair_ = std::make_unique<Pair>(shared_master(), standby_, options);
    disk_.emplace(pair_->data_dir(), kDiskBytes);
    pair_->on_both("CREATE TABLE t (id bigserial PRIMARY KEY, v bytea)");
    pair_->start();
    pair_->wait_applied();
    progress_at_start_ = progress();
    load_ = std::jthread([this](const std::stop_token& stop) { write(stop); });
  }

  void TearDown() override {
    load_ = {};
    if (HasFailure()) std::cout << pair_->story();
  }

  // What does not compress.
  void write(const std::stop_token& stop) const {
    pqxx::connection master(pair_->master());
    for (int i = 1; !stop.stop_requested(); ++i) {
      pqxx::nontransaction session(master);
      session.exec(
          "INSERT INTO t (v) SELECT sha512(a) || sha512(a || 'b') || sha512(a || 'c') || "
          "sha512(a || 'd') || sha512(a || 'e') || sha512(a || 'f') || sha512(a || 'g') || "
          "sha512(a || 'h') FROM (SELECT random()::text::bytea FROM generate_series(1, 200)) x(a)");
      if (i % 50 == 0) session.exec("DELETE FROM t WHERE id <= (SELECT max(id) - 20000 FROM t)");
    }
  }

  int told(const std::string& event) const {
    const auto story = pair_->story();
    int times = 0;
    for (auto at = story.find(event); at != std::string::npos; at = story.find(event, at + 1))
      ++times;
    return times;
  }

  // Now, also since before it was held up: each time is told once when it begins, once when it
  // ends.
  bool is_full() const { return told("event=spool_full") > told("event=spool_has_room"); }

  // In turn a standby that is down and one whose table is locked.
  void hold_up(int cycle) {
    if (cycle % 2 == 0) return check(standby_.stop());
    holder_.emplace(pair_->standby());
    lock_ = std::make_unique<pqxx::work>(*holder_);
    lock_->exec("LOCK TABLE t IN ACCESS EXCLUSIVE MODE");
  }
  void let_go(int cycle) {
    if (cycle % 2 == 0) return check(standby_.start());
    lock_.reset();
    holder_.reset();
  }

  void expect_everything_applied() {
    load_ = {};
    pair_->wait_applied(kAppliedWithin);
    EXPECT_TRUE(pair_->same_content("public.t"));
    EXPECT_EQ(pair_->stop_receiver(), 0);
    auto checkpoint = apply::Checkpoint::open(pair_->data_dir());
    ASSERT_TRUE(checkpoint.ok()) << one_line(checkpoint.error());
    const auto state = checkpoint->load();
    ASSERT_TRUE(state.ok() && state->has_value());
    // What the standby's WAL has flushed: perhaps not yet the last of it.
    const auto noted = (*state)->progress.applied_lsn;
    EXPECT_GT(noted, progress_at_start_);
    EXPECT_LE(noted, progress());
    std::cout << fmt::format("{} times full, {} rows\n", told("event=spool_full"),
                             query_value(pair_->master(), "SELECT max(id) FROM t"));
  }

  MasterLsn progress() const {
    return MasterLsn{
        parse_lsn(query_value(pair_->standby(), "SELECT applied_lsn FROM bitacora.progress"))
            .value()};
  }

  MasterLsn progress_at_start_;
  engine::ThrowawayCluster standby_ = engine::ThrowawayCluster::make("disk_full_standby").value();
  std::unique_ptr<Pair> pair_;
  std::optional<SmallDisk> disk_;
  std::optional<pqxx::connection> holder_;
  std::unique_ptr<pqxx::work> lock_;
  std::jthread load_;
};

TEST_F(DiskFull, UpToTheReserve) {
  for (int cycle = 0; cycle < cycles() && !HasFailure(); ++cycle) {
    SCOPED_TRACE(cycle);
    hold_up(cycle);
    ASSERT_TRUE(
        eventually([&] { return is_full() && disk_->free_bytes() < kReserveBytes + (1u << 20); },
                   kFullWithin));
    const auto room_before = told("event=spool_has_room");
    EXPECT_GT(disk_->free_bytes(), kReserveBytes - (1u << 20)) << "the reserve is for others";
    EXPECT_TRUE(pair_->receiver().running());
    let_go(cycle);
    ASSERT_TRUE(
        eventually([&] { return told("event=spool_has_room") > room_before; }, kFullWithin));
    pair_->wait_applied(kAppliedWithin);
  }
  expect_everything_applied();
  EXPECT_EQ(told("event=not_tidied"), 0) << "the checkpoint had its reserve";
}

// Somebody else takes the reserve too.
TEST_F(DiskFull, ToTheLastByte) {
  for (int cycle = 0; cycle < cycles() && !HasFailure(); ++cycle) {
    SCOPED_TRACE(cycle);
    const auto full_before = told("event=spool_full");
    hold_up(cycle);
    disk_->fill_up();
    ASSERT_TRUE(eventually([&] { return told("event=spool_full") > full_before; }, kFullWithin));
    EXPECT_TRUE(pair_->receiver().running());
    if (cycle % 3 == 2) {  // it comes back although there is no room for anything
      pair_->kill_receiver();
      disk_->fill_up();
      pair_->start_receiver();
      ASSERT_TRUE(
          eventually([&] { return told("event=spool_full") > full_before + 1; }, kFullWithin));
    }
    if (cycle % 2 == 0) let_go(cycle);
    disk_->remove_ballast();
    if (cycle % 2 != 0) let_go(cycle);
    pair_->wait_applied(kAppliedWithin);
  }
  expect_everything_applied();
}

}  // namespace
}  // namespace bitacora::harness
