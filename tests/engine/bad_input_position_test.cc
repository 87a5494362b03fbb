// Positions that do not fit together any more: named exactly, never skipped, no slot made anew.
#include <gtest/gtest.h>

#include <signal.h>

#include <filesystem>

#include "tests/engine/refusal.h"
#include "tests/postgres/database.h"

namespace bitacora::harness {
namespace {

constexpr std::chrono::seconds kNoticed{40};

class BadInputPosition : public testing::Test {
 protected:
  void SetUp() override {
    pair_.on_both("CREATE TABLE t (id int PRIMARY KEY)");
    pair_.start();
    pair_.on_master("INSERT INTO t VALUES (1)");
    pair_.wait_applied();
  }

  std::string slot() const { return "bitacora_" + pair_.name(); }
  std::string in_slot(const std::string& column) const {
    return query_value(
        pair_.master(),
        "SELECT " + column + " FROM pg_replication_slots WHERE slot_name = '" + slot() + "'");
  }
  std::string slots() const {
    return query_value(
        pair_.master(),
        "SELECT count(*) FROM pg_replication_slots WHERE slot_name = '" + slot() + "'");
  }
  std::string applied() const {
    return query_value(pair_.standby(), "SELECT applied_lsn FROM bitacora.progress");
  }
  void set_progress(const std::string& assignment) const {
    pair_.on_standby("UPDATE bitacora.progress SET " + assignment);
  }

  // Between the end of its reader and the next one nobody holds the slot.
  void drop_slot() const {
    ASSERT_TRUE(eventually([&] {
      try {
        pair_.on_master(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = "
            "'" +
            slot() + "'");
        pair_.on_master(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name "
            "= '" +
            slot() + "'");
        return slots() == "0";
      } catch (const std::exception&) {
        return false;
      }
    }));
  }
  void make_slot() const {
    pair_.on_master("SELECT pg_create_logical_replication_slot('" + slot() + "', 'pgoutput')");
  }

  // The receiver, started again, must end so.
  void expect_receiver(int exit_code, const std::vector<std::string>& words) {
    pair_.start_receiver();
    expect_ends_refused(pair_.receiver(), exit_code, words);
  }

  Pair pair_;
};

TEST_F(BadInputPosition, SlotDroppedWhileTheSenderReads) {
  drop_slot();
  expect_ends_refused(pair_.sender(), 3, {slot(), "is gone", "bitacora drop"});
  EXPECT_EQ(slots(), "0");
}

TEST_F(BadInputPosition, SlotDroppedWhileTheSenderIsAway) {
  EXPECT_EQ(pair_.stop_sender(), 0);
  drop_slot();
  pair_.start_sender();
  expect_ends_refused(pair_.sender(), 3, {slot(), "is gone", "bitacora drop"});
  EXPECT_EQ(slots(), "0");
}

TEST_F(BadInputPosition, SlotDroppedWhileNobodyReads) {
  EXPECT_EQ(pair_.stop_receiver(), 0);
  drop_slot();
  expect_ends_refused(pair_.sender(), 3, {slot(), "is gone", "bitacora drop"});
  EXPECT_EQ(slots(), "0");
}

TEST_F(BadInputPosition, SlotMadeAnewDuringWrites) {
  for (const bool restarted : {true, false}) {
    SCOPED_TRACE(restarted ? "sender restarted" : "sender runs");
    pair_.stop_receiver();
    if (restarted) {
      pair_.stop_sender();
    } else {
      pair_.sender().signal(SIGSTOP);  // it would notice that the slot is gone
    }
    const auto ours = applied();
    drop_slot();
    pair_.on_master("INSERT INTO t VALUES (2) ON CONFLICT DO NOTHING");
    make_slot();
    pair_.on_master("INSERT INTO t VALUES (3) ON CONFLICT DO NOTHING");
    if (restarted) {
      pair_.start_sender();
    } else {
      pair_.sender().signal(SIGCONT);
    }
    expect_receiver(3, {"gap " + ours + " to " + in_slot("confirmed_flush_lsn"), "--begin-anew"});
    EXPECT_EQ(query_value(pair_.standby(), "SELECT count(*) FROM t"), "1");
    EXPECT_EQ(applied(), ours);
  }
}

TEST_F(BadInputPosition, SlotAdvancedBySomebodyElse) {
  EXPECT_EQ(pair_.stop_receiver(), 0);
  const auto ours = applied();
  pair_.on_master("INSERT INTO t VALUES (2)");
  ASSERT_TRUE(eventually([&] { return in_slot("active") == "f"; }));
  pair_.on_master("SELECT pg_replication_slot_advance('" + slot() + "', pg_current_wal_lsn())");
  expect_receiver(3, {"gap " + ours + " to " + in_slot("confirmed_flush_lsn"), "--begin-anew"});
  EXPECT_EQ(query_value(pair_.standby(), "SELECT count(*) FROM t"), "1");
}

// The receiver stays connected, so that only the reader's own start can tell.
TEST_F(BadInputPosition, SlotAdvancedWhileTheSenderIsHeldUp) {
  pair_.sender().signal(SIGSTOP);
  pair_.on_master("INSERT INTO t VALUES (2)");
  ASSERT_TRUE(eventually([&] {
    try {
      pair_.on_master(
          "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '" +
          slot() + "'");
      pair_.on_master("SELECT pg_replication_slot_advance('" + slot() + "', pg_current_wal_lsn())");
      return true;
    } catch (const std::exception&) {  // still active
      return false;
    }
  }));
  const auto advanced = in_slot("confirmed_flush_lsn");
  pair_.sender().signal(SIGCONT);
  expect_ends_refused(pair_.sender(), 3,
                      {"is confirmed up to " + advanced, "still needs changes from"});
  EXPECT_EQ(query_value(pair_.standby(), "SELECT count(*) FROM t"), "1");
}

TEST_F(BadInputPosition, ProgressRowDeletedWhileApplying) {
  pair_.on_standby("DELETE FROM bitacora.progress");
  pair_.on_master("INSERT INTO t VALUES (2)");
  ASSERT_TRUE(pair_.receiver().wait(kNoticed).has_value()) << pair_.story();
  expect_ends_refused(pair_.receiver(), 3, {"bitacora.progress", "--name"});
  EXPECT_EQ(query_value(pair_.standby(), "SELECT count(*) FROM t"), "1");
}

TEST_F(BadInputPosition, ProgressRowDeletedWhileAway) {
  EXPECT_EQ(pair_.stop_receiver(), 0);
  pair_.on_standby("DELETE FROM bitacora.progress");
  expect_receiver(3, {"no progress row", "--standby"});
}

TEST_F(BadInputPosition, ProgressRowOfAnotherMaster) {
  EXPECT_EQ(pair_.stop_receiver(), 0);
  set_progress("system_identifier = 12345");
  expect_receiver(3, {"data directory", "12345", "--data-dir"});
  std::filesystem::remove_all(pair_.data_dir());
  expect_receiver(3, {"follows", "12345", "--sender"});
}

TEST_F(BadInputPosition, ProgressAheadOfTheMaster) {
  EXPECT_EQ(pair_.stop_receiver(), 0);
  set_progress("applied_lsn = 'FFFF/0'");
  expect_receiver(3, {"FFFF/0", "older state of the master"});
}

// It is in the sender's state and in every log.
TEST_F(BadInputPosition, ANameThatIsNone) {
  EXPECT_EQ(pair_.stop_receiver(), 0);
  for (const std::string& name :
       {std::string("two\nlines"), std::string("quoted'"), std::string(200, 'x')})
    expect_refused(run(receiver_command(pair_, {{"--name", name}})), 2,
                   {"no name of a receiver", "--name"});
}

TEST_F(BadInputPosition, DataDirectoryOfAnotherPair) {
  EXPECT_EQ(pair_.stop_receiver(), 0);
  expect_refused(run(receiver_command(pair_, {{"--name", "other"}})), 3,
                 {"no progress row", "--data-dir"});
  pair_.on_standby(
      "INSERT INTO bitacora.progress SELECT 'other', 12345, database, slot, stream, applied_lsn "
      "FROM bitacora.progress");
  expect_refused(run(receiver_command(pair_, {{"--name", "other"}})), 3, {"12345", "--data-dir"});
  pair_.start_receiver();
  pair_.wait_applied();
}

// With its spool: what the standby has must reach as far as what the slot was confirmed by. Nobody
// confirms anything while the sender is away.
TEST_F(BadInputPosition, DataDirectoryDeleted) {
  EXPECT_EQ(pair_.stop_sender(), 0);
  ASSERT_TRUE(
      eventually([&] { return in_slot("confirmed_flush_lsn <= '" + applied() + "'") == "t"; }));
  EXPECT_EQ(pair_.stop_receiver(), 0);
  std::filesystem::remove_all(pair_.data_dir());
  pair_.on_master("INSERT INTO t VALUES (2)");
  pair_.start_sender();
  pair_.start_receiver();
  pair_.wait_applied();
  EXPECT_TRUE(pair_.same_content("public.t"));
}

TEST_F(BadInputPosition, StandbyRestoredToAnOlderState) {
  const auto elsewhere = fresh_database(shared_standby(), "holder_of_the_slot");
  execute(elsewhere, "CREATE TABLE t (id int PRIMARY KEY)");
  {
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
  pair_.wait_applied();
  const auto older = applied();
  pair_.on_master("INSERT INTO t VALUES (2), (3)");
  pair_.wait_applied();
  EXPECT_EQ(pair_.stop_receiver(), 0);
  pair_.on_standby("DELETE FROM t WHERE id > 1");
  set_progress("applied_lsn = '" + older + "'");
  pair_.start_receiver();
  pair_.wait_applied();
  EXPECT_TRUE(pair_.same_content("public.t"));
}

}  // namespace
}  // namespace bitacora::harness
