// The master is a physical standby: what its primary is told to write arrives through a slot of the
// standby, whatever happens to it, or the sender says what to do. PostgreSQL 16 and newer.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <fstream>
#include <optional>
#include <thread>

#include "tests/engine/physical_standby.h"
#include "tests/engine/refusal.h"
#include "tests/postgres/database.h"
#include "tests/postgres/servers.h"

namespace bitacora::harness {
namespace {

constexpr std::chrono::seconds kNoticed{60};

void check(const Result<void>& done) {
  if (!done.ok()) throw std::runtime_error(one_line(done.error()));
}

engine::ThrowawayCluster make_cluster(const std::string& name, int version) {
  engine::ClusterOptions options;
  options.bin_dir = available_servers().at(version);
  return engine::ThrowawayCluster::make(name, options).value();
}

class StandbyMaster : public testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    if (!available_servers().contains(GetParam())) GTEST_SKIP() << why_missing(GetParam());
    primary_.emplace(make_cluster("primary", GetParam()));
    relay_.emplace(make_cluster("relay", GetParam()));
    execute(primary_->conninfo(), "SELECT pg_create_physical_replication_slot('physical', true)");
    check(relay_->stop());
    check(primary_->stop());
    make_standby(*primary_, *relay_, Slots::kLeftBehind, follow(*primary_));
    check(primary_->start());
    check(relay_->start());
    PairOptions options;
    options.name = fmt::format("standby_master_{}", GetParam());
    pair_.emplace(*primary_, shared_standby(), options);
    pair_->on_both("CREATE TABLE t (id bigint PRIMARY KEY, v text)");
    wait_for_replay();  // the database too
  }

  // Its own, since Pair's would read the primary.
  void start_sender() { sender_.emplace(sender_command(*pair_, {{"--master", relay()}})); }
  int stop_sender() {
    send_signal(*sender_, SIGTERM);
    const auto exit_code = sender_->wait(kNoticed);
    past_ += sender_->error_output();
    return exit_code.value_or(-1);
  }
  void start() {
    publish();
    start_sender();
    wait_for_slot();
    pair_->start_receiver();
    write();
    ASSERT_TRUE(arrives()) << story();
  }

  void publish() const {
    pair_->on_master(fmt::format("CREATE PUBLICATION {} FOR ALL TABLES", publication()));
    wait_for_replay();
  }
  void wait_for_replay() const {
    const auto lsn = query_value(pair_->master(), "SELECT pg_current_wal_lsn()");
    EXPECT_TRUE(eventually([&] {
      return query_value(relay_->conninfo(), "SELECT pg_last_wal_replay_lsn() >= '" + lsn + "'") ==
             "t";
    }));
  }
  void wait_for_slot() {
    EXPECT_TRUE(eventually([&] {
      execute(primary_->conninfo(), "SELECT pg_log_standby_snapshot()");
      return slot("count(*)") == "1" && story().find("event=slot_created") != std::string::npos;
    })) << story();
  }

  void write() { write_to(pair_->master()); }
  void write_to(const std::string& conninfo) {
    execute(conninfo, fmt::format("INSERT INTO t VALUES ({}, 'x')", ++newest_));
  }
  // 200 kB each.
  void write_backlog(int transactions) {
    for (int i = 0; i < transactions; ++i) {
      pair_->on_master(
          fmt::format("INSERT INTO t SELECT i, repeat(md5(i::text), 32) FROM generate_series({}, "
                      "{}) AS i",
                      newest_ + 1, newest_ + 200));
      newest_ += 200;
    }
  }
  // Every row once; a repeated one would stop the receiver.
  bool arrives(std::chrono::seconds patience = kNoticed) const {
    return eventually(
        [&] {
          return query_value(pair_->standby(),
                             "SELECT count(*) || ' ' || coalesce(max(id), 0) "
                             "FROM t") == fmt::format("{0} {0}", newest_);
        },
        patience);
  }

  std::string relay() const { return relay_->conninfo(pair_->name()); }
  std::string publication() const { return "bitacora_" + pair_->name(); }
  std::string slot(const std::string& expression) const {
    return query_value(relay_->conninfo(),
                       "SELECT " + expression +
                           " FROM pg_replication_slots WHERE slot_name = 'bitacora_" +
                           pair_->name() + "'");
  }
  std::string story() const {
    return past_ + (sender_ ? sender_->error_output() : "") + pair_->story();
  }
  int times_said(const std::string& words) const {
    int times = 0;
    const auto text = story();
    for (auto at = text.find(words); at != std::string::npos; at = text.find(words, at + 1))
      ++times;
    return times;
  }

  std::optional<engine::ThrowawayCluster> primary_;
  std::optional<engine::ThrowawayCluster> relay_;
  std::optional<Pair> pair_;
  std::optional<Process> sender_;
  std::string past_;
  int newest_ = 0;
};

TEST_P(StandbyMaster, WhatThePrimaryWritesArrives) {
  start();
  const auto confirmed = slot("confirmed_flush_lsn");
  for (int i = 0; i < 20; ++i) write();
  EXPECT_TRUE(arrives()) << story();
  EXPECT_TRUE(eventually([&] { return slot("confirmed_flush_lsn > '" + confirmed + "'") == "t"; }))
      << "the slot does not follow";
  EXPECT_EQ(query_value(primary_->conninfo(),
                        "SELECT string_agg(slot_name, ' ') FROM pg_replication_slots"),
            "physical");
  EXPECT_EQ(times_said("event=no_hot_standby_feedback"), 0);
  EXPECT_EQ(stop_sender(), 0);
}

// The snapshot, as the slot, comes when the primary has written which transactions run there.
TEST_P(StandbyMaster, TablesAreCopiedFromIt) {
  publish();
  write_backlog(5);
  wait_for_replay();
  start_sender();
  wait_for_slot();
  Process receiver(receiver_command(*pair_, {{"--no-copy", ""}}));
  write();
  EXPECT_TRUE(eventually(
      [&] {
        execute(primary_->conninfo(), "SELECT pg_log_standby_snapshot()");
        return receiver.error_output().find("event=applying") != std::string::npos;
      },
      kNoticed))
      << receiver.error_output() << story();
  write();
  EXPECT_TRUE(arrives()) << receiver.error_output() << story();
  EXPECT_TRUE(pair_->same_content("public.t"));
  EXPECT_EQ(query_value(relay_->conninfo(), "SELECT count(*) FROM pg_replication_slots"), "1");
}

TEST_P(StandbyMaster, ABacklogComesFromACopyOfItsSlot) {
  start();
  EXPECT_EQ(stop_sender(), 0);
  write_backlog(100);
  wait_for_replay();
  start_sender();
  EXPECT_TRUE(arrives()) << story();
  EXPECT_EQ(times_said("event=catching_up"), 1) << story();
  write();
  EXPECT_TRUE(arrives()) << story();
  EXPECT_TRUE(eventually([&] {
    return query_value(relay_->conninfo(), "SELECT count(*) FROM pg_replication_slots") == "1";
  }));
}

// Its walsender goes on without a word, and so must what is read be told apart.
TEST_P(StandbyMaster, IsPromotedWhileItIsRead) {
  start();
  check(primary_->stop());
  execute(relay(), "SELECT pg_promote()");
  for (int i = 0; i < 50; ++i) write_to(relay());
  EXPECT_TRUE(arrives()) << story();
  EXPECT_EQ(times_said("event=timeline_changed from=1 to=2"), 1) << story();
  EXPECT_EQ(pair_->stop_receiver(), 0);
  EXPECT_EQ(stop_sender(), 0);
  write_to(relay());
  start_sender();
  pair_->start_receiver();
  EXPECT_TRUE(arrives()) << story();
}

TEST_P(StandbyMaster, IsPromotedWhileABacklogIsRead) {
  start();
  EXPECT_EQ(stop_sender(), 0);
  write_backlog(300);
  wait_for_replay();
  check(primary_->stop());
  start_sender();
  ASSERT_TRUE(eventually([&] { return times_said("event=catching_up") > 0; })) << story();
  execute(relay(), "SELECT pg_promote()");
  for (int i = 0; i < 50; ++i) write_to(relay());
  EXPECT_TRUE(arrives()) << story();
  EXPECT_EQ(times_said("event=timeline_changed from=1 to=2"), 1) << story();
  EXPECT_EQ(stop_sender(), 0);
  start_sender();
  write_to(relay());
  EXPECT_TRUE(arrives()) << story();
}

TEST_P(StandbyMaster, ItsPrimaryGoesOverToAnotherTimeline) {
  start();
  check(primary_->stop());
  std::ofstream(primary_->directory() / "data" / "standby.signal").flush();
  check(primary_->start());
  execute(primary_->conninfo(), "SELECT pg_promote()");
  for (int i = 0; i < 50; ++i) write();
  EXPECT_TRUE(arrives()) << story();
  EXPECT_EQ(times_said("event=timeline_changed from=1 to=2"), 1) << story();
  EXPECT_EQ(query_value(relay(), "SELECT pg_is_in_recovery()"), "t");
  EXPECT_EQ(pair_->stop_receiver(), 0);
  EXPECT_EQ(stop_sender(), 0);
  write();
  start_sender();
  pair_->start_receiver();
  EXPECT_TRUE(arrives()) << story();
}

// It lets us in before it has replayed again what the receiver has already.
TEST_P(StandbyMaster, Crashes) {
  start();
  for (int round = 0; round < 3; ++round) {
    write_backlog(20);
    check(relay_->kill());
    write();
    check(relay_->start());
    write();
    EXPECT_TRUE(arrives()) << story();
  }
  EXPECT_TRUE(sender_->running());
  EXPECT_TRUE(pair_->receiver().running());
}

TEST_P(StandbyMaster, AReceiverIsAheadOfWhatItHasReplayedAnew) {
  start();
  // It counts from each commit on the primary.
  execute(relay(), "ALTER SYSTEM SET recovery_min_apply_delay = '10s'");
  write_backlog(5);
  ASSERT_TRUE(arrives()) << story();
  check(relay_->kill());
  check(relay_->start());
  EXPECT_EQ(pair_->stop_receiver(), 0);
  pair_->start_receiver();
  std::this_thread::sleep_for(std::chrono::seconds(2));
  EXPECT_EQ(query_value(relay_->conninfo(), "SELECT pg_last_wal_replay_lsn() < '" +
                                                query_value(pair_->standby(),
                                                            "SELECT applied_lsn FROM "
                                                            "bitacora.progress") +
                                                "'"),
            "t")
      << "it was too fast to tell";
  write();
  EXPECT_TRUE(arrives()) << story();
}

// A standby cannot ask PostgreSQL how it spells a filter.
TEST_P(StandbyMaster, AFilterIsThereOrThePrimaryIsToldToMakeIt) {
  const auto file = testing::TempDir() + "bitacora_standby_master.toml";
  std::ofstream(file) << "tables = \"t\"\n[table.t]\nwhere = \"id>0\"\ncolumns = [\"v\", \"id\"]\n";
  const Changes filtered{{"--master", relay()}, {"--config", file}};
  pair_->on_master(fmt::format("CREATE PUBLICATION {} FOR TABLE t", publication()));
  wait_for_replay();
  const auto mend = fmt::format(
      R"(BEGIN; LOCK TABLE "public"."t" IN SHARE ROW EXCLUSIVE MODE; )"
      R"(ALTER PUBLICATION "{0}" DROP TABLE "public"."t"; )"
      R"(ALTER PUBLICATION "{0}" ADD TABLE "public"."t" ("v", "id") WHERE (id>0); COMMIT)",
      publication());
  expect_refused(run(sender_command(*pair_, filtered)), 4,
                 {"is not what is asked for", "run on the primary: " + mend});
  pair_->on_master(mend);
  wait_for_replay();
  sender_.emplace(sender_command(*pair_, filtered));
  wait_for_slot();
  EXPECT_EQ(times_said("event=filter_not_compared tables=\"public.t\""), 1) << story();
  pair_->start_receiver();
  write();
  EXPECT_TRUE(arrives()) << story();
  EXPECT_EQ(stop_sender(), 0);
  std::remove(file.c_str());
}

TEST_P(StandbyMaster, WithoutAPublicationItSaysWhatThePrimaryRuns) {
  wait_for_replay();
  const auto creation = [&](const std::string& what) {
    return fmt::format(
        R"(CREATE PUBLICATION "{}" FOR {} WITH (publish_via_partition_root = false))",
        publication(), what);
  };
  expect_refused(run(sender_command(*pair_, {{"--master", relay()}})), 4,
                 {"does not exist", "run on the primary: " + creation("ALL TABLES")});
  const Changes chosen{{"--master", relay()}, {"--tables", "public.t"}};
  expect_refused(run(sender_command(*pair_, chosen)), 4,
                 {"run on the primary: " + creation(R"(TABLE "public"."t")")});
  pair_->on_master("CREATE TABLE u (id int PRIMARY KEY)");
  pair_->on_master(creation("TABLE u"));
  wait_for_replay();
  const Changes both{{"--master", relay()}, {"--tables", "public.*"}};
  const auto more = fmt::format(R"(BEGIN; LOCK TABLE "public"."t" IN SHARE ROW EXCLUSIVE MODE; )"
                                R"(ALTER PUBLICATION "{}" ADD TABLE "public"."t"; COMMIT)",
                                publication());
  expect_refused(run(sender_command(*pair_, both)), 4,
                 {"lacks tables", "run on the primary: " + more});
  EXPECT_EQ(slot("count(*)"), "0");
  // And it is what mends it.
  pair_->on_master(more);
  wait_for_replay();
  sender_.emplace(sender_command(*pair_, both));
  wait_for_slot();
}

TEST_P(StandbyMaster, ItsSlotWaitsForThePrimaryAndStopEndsThat) {
  publish();
  start_sender();
  EXPECT_TRUE(eventually([&] { return times_said("event=slot_waits") > 0; })) << story();
  EXPECT_EQ(times_said("SELECT pg_log_standby_snapshot()"), 1);
  send_signal(*sender_, SIGTERM);
  EXPECT_EQ(sender_->wait(std::chrono::seconds(5)), 0) << story();
  EXPECT_EQ(slot("count(*)"), "0");
}

TEST_P(StandbyMaster, WithoutFeedbackItWarnsAndSaysWhenThatCostTheSlot) {
  execute(relay(), "ALTER SYSTEM SET hot_standby_feedback = off");
  execute(relay(), "SELECT pg_reload_conf()");
  start();
  EXPECT_EQ(times_said("event=no_hot_standby_feedback"), 1) << story();
  ASSERT_TRUE(eventually(
      [&] {
        pair_->on_master("CREATE TABLE passing (id int)");
        pair_->on_master("DROP TABLE passing");
        pair_->on_master("VACUUM pg_class");
        return slot("wal_status") == "lost";
      },
      kNoticed))
      << story();
  expect_ends_refused(*sender_, 3,
                      {publication(), "was invalidated", "removed rows of its catalogue",
                       "hot_standby_feedback", "bitacora drop"});
  EXPECT_EQ(times_said("event=no_hot_standby_feedback"), 1);
}

TEST_P(StandbyMaster, SaysWhenThePrimaryNoLongerWritesLogicalWal) {
  start();
  execute(primary_->conninfo(), "ALTER SYSTEM SET wal_level = replica");
  check(primary_->stop());
  check(primary_->start());
  expect_ends_refused(*sender_, 3,
                      {publication(), "was invalidated", "wal_level", "bitacora drop"});
}

TEST_P(StandbyMaster, NeedsThePrimaryToWriteLogicalWal) {
  publish();
  execute(primary_->conninfo(), "ALTER SYSTEM SET wal_level = replica");
  check(primary_->stop());
  check(primary_->start());
  wait_for_replay();
  expect_refused(run(sender_command(*pair_, {{"--master", relay()}})), 4,
                 {"wal_level", "run on the primary: ALTER SYSTEM SET wal_level = logical"});
}

TEST_P(StandbyMaster, DropLeavesThePublicationToThePrimary) {
  start();
  EXPECT_EQ(pair_->stop_receiver(), 0);
  EXPECT_EQ(stop_sender(), 0);
  const auto dropped = Pair::bitacora({"drop", "--master", relay(), "--stream", pair_->name()});
  EXPECT_EQ(dropped.exit_code, 4);
  EXPECT_EQ(slot("count(*)"), "0");
  EXPECT_NE(dropped.error_output.find("run on the primary: DROP PUBLICATION " + publication()),
            std::string::npos)
      << dropped.error_output;
}

INSTANTIATE_TEST_SUITE_P(PostgreSql, StandbyMaster, testing::Values(16, 18),
                         testing::PrintToStringParamName());

}  // namespace
}  // namespace bitacora::harness
