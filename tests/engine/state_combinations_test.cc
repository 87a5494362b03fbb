// A receiver's memory is in three places: the row on the standby, the checkpoint and the spool.
// Each may be as it was before, as it is, gone, or another stream's: every combination either goes
// on to equal tables or stops with an exit code, the standby untouched (rule I4 and the identity
// stamps).
#include <gtest/gtest.h>

#include <filesystem>
#include <iostream>

#include <fmt/format.h>

#include "tests/engine/refusal.h"
#include "tests/postgres/database.h"

namespace bitacora::harness {
namespace {

namespace fs = std::filesystem;

constexpr std::chrono::seconds kDecidedWithin{60};
constexpr const char* kTable = "CREATE TABLE t (id int PRIMARY KEY)";
constexpr const char* kOneRowMore = "INSERT INTO t SELECT count(*) + 1 FROM t";

enum class Kept { kOld, kNew, kMissing, kForeign };
constexpr Kept kAll[] = {Kept::kOld, Kept::kNew, Kept::kMissing, Kept::kForeign};

const char* name_of(Kept kept) {
  constexpr const char* kNames[] = {"old", "new", "missing", "foreign"};
  return kNames[static_cast<int>(kept)];
}

struct Combination {
  Kept row;
  Kept checkpoint;
  Kept spool;
};

constexpr int kGoesOn = 0;
constexpr int kState = 3;
constexpr int kStandby = 5;

// What the three say together. The slot begins between the old state and the new one.
int expected(const Combination& c) {
  const bool nothing_kept = c.checkpoint == Kept::kMissing && c.spool == Kept::kMissing;
  // A first start, but the table is ahead of the slot: a row is there already.
  if (c.row == Kept::kMissing) return nothing_kept ? kStandby : kState;
  if (c.row == Kept::kForeign || c.checkpoint == Kept::kForeign || c.spool == Kept::kForeign)
    return kState;
  switch (c.spool) {
    case Kept::kNew:
      return kGoesOn;  // it has what lies between the standby and the slot
    case Kept::kOld:   // it ends before the slot begins, which has what follows the new row
      return c.row == Kept::kNew && c.checkpoint != Kept::kNew ? kGoesOn : kState;
    default:
      // The checkpoint remembers a spool, or the standby needs what only that one had.
      return nothing_kept && c.row == Kept::kNew ? kGoesOn : kState;
  }
}

class StateCombinations : public testing::Test {
 protected:
  void SetUp() override {
    pair_.on_both(kTable);
    pair_.start();
    add_a_row();
    keep_as(Kept::kOld);
    pair_.start_receiver();
    add_a_row();
    hold_the_slot();
    pair_.on_master(kOneRowMore);
    pair_.wait_applied();
    keep_as(Kept::kNew);
    keep_foreign();
    pair_.on_master(kOneRowMore);
  }

  std::string saved(Kept kept) const { return fmt::format("{}_{}", pair_.name(), name_of(kept)); }
  fs::path saved_files(Kept kept) const { return pair_.data_dir().parent_path() / name_of(kept); }

  void copy_standby(const std::string& from, const std::string& to) const {
    const auto server = shared_standby().conninfo();
    execute(server, "DROP DATABASE IF EXISTS " + to + " WITH (FORCE)");
    execute(server, "CREATE DATABASE " + to + " TEMPLATE " + from);
  }

  // Everywhere, and the master told so.
  void add_a_row() {
    pair_.on_master(kOneRowMore);
    const auto lsn = query_value(pair_.master(), "SELECT pg_current_wal_lsn()");
    pair_.wait_applied();
    ASSERT_TRUE(eventually([&] {
      return query_value(pair_.master(),
                         fmt::format("SELECT confirmed_flush_lsn >= '{}' FROM pg_replication_slots "
                                     "WHERE slot_name = 'bitacora_{}'",
                                     lsn, pair_.name())) == "t";
    }));
  }

  void keep_as(Kept kept) {
    EXPECT_EQ(pair_.stop_receiver(), 0);
    copy_standby(pair_.name(), saved(kept));
    fs::copy(pair_.data_dir(), saved_files(kept), fs::copy_options::recursive);
  }

  void keep_foreign() {
    PairOptions options;
    options.name = "other_" + pair_.name();
    Pair other(shared_master(), shared_standby(), options);
    other.on_both(kTable);
    other.start();
    other.on_master(kOneRowMore);
    other.wait_applied();
    other.stop();
    fs::copy(other.data_dir(), saved_files(Kept::kForeign), fs::copy_options::recursive);
    copy_standby(saved(Kept::kNew), saved(Kept::kForeign));
    execute(shared_standby().conninfo(saved(Kept::kForeign)),
            "UPDATE bitacora.progress SET system_identifier = 12345");
    copy_standby(saved(Kept::kNew), saved(Kept::kMissing));
    execute(shared_standby().conninfo(saved(Kept::kMissing)), "DELETE FROM bitacora.progress");
  }

  // Another receiver, so that what one combination confirms does not make a gap for the next.
  void hold_the_slot() const {
    const auto elsewhere = fresh_database(shared_standby(), "holder_of_the_slot");
    execute(elsewhere, kTable);
    Process holder(
        receiver_command(pair_, {{"--standby", elsewhere},
                                 {"--name", "holder"},
                                 {"--http", free_address()},
                                 {"--data-dir", pair_.data_dir().parent_path() / "holder"}}));
    ASSERT_TRUE(eventually([&] {
      return query_value(elsewhere, "SELECT to_regclass('bitacora.progress') IS NOT NULL") == "t" &&
             query_value(elsewhere, "SELECT count(*) FROM bitacora.progress") == "1";
    }));
  }

  void arrange(const Combination& c) const {
    copy_standby(saved(c.row), pair_.name());
    fs::remove_all(pair_.data_dir());
    fs::create_directories(pair_.data_dir());
    if (c.checkpoint != Kept::kMissing) {
      fs::copy(saved_files(c.checkpoint) / "data.mdb", pair_.data_dir() / "data.mdb");
    }
    if (c.spool != Kept::kMissing) {
      fs::copy(saved_files(c.spool) / "spool", pair_.data_dir() / "spool");
    }
  }

  void play(const Combination& c) {
    arrange(c);
    const auto before = table_content(pair_.standby(), "public.t");
    pair_.start_receiver();
    if (expected(c) == kGoesOn) {
      pair_.wait_applied(kDecidedWithin);
      EXPECT_TRUE(pair_.same_content("public.t"));
      EXPECT_EQ(pair_.stop_receiver(), 0);
      return;
    }
    ASSERT_TRUE(pair_.receiver().wait(kDecidedWithin).has_value()) << "neither on nor stopped";
    expect_ends_refused(pair_.receiver(), expected(c), {});
    EXPECT_EQ(table_content(pair_.standby(), "public.t"), before);
  }

  Pair pair_;
};

TEST_F(StateCombinations, GoOnOrStop) {
  int on = 0;
  for (const auto row : kAll) {
    for (const auto checkpoint : kAll) {
      for (const auto spool : kAll) {
        const Combination c{row, checkpoint, spool};
        SCOPED_TRACE(fmt::format("row {}, checkpoint {}, spool {}", name_of(row),
                                 name_of(checkpoint), name_of(spool)));
        try {
          play(c);
        } catch (const std::exception& error) {
          ADD_FAILURE() << error.what();
          if (pair_.receiver().running()) pair_.kill_receiver();
        }
        on += expected(c) == kGoesOn;
      }
    }
  }
  std::cout << fmt::format("64 combinations, {} go on\n", on);
}

}  // namespace
}  // namespace bitacora::harness
