// A master that can not go on where the receivers are: it removed the WAL, or another server took
// its place. The sender says so and ends; nothing is skipped, no slot is made anew.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <optional>
#include <pqxx/pqxx>
#include <thread>

#include "tests/engine/physical_standby.h"
#include "tests/engine/refusal.h"
#include "tests/postgres/database.h"

namespace bitacora::harness {
namespace {

constexpr std::chrono::seconds kNoticed{60};

void check(const Result<void>& done) {
  if (!done.ok()) throw std::runtime_error(one_line(done.error()));
}

class LostSlot : public testing::Test {
 protected:
  void start(std::vector<std::string> receiver_arguments = {}) {
    PairOptions options;
    options.receiver_arguments = std::move(receiver_arguments);
    pair_.emplace(master_, shared_standby(), options);
    pair_->on_both("CREATE TABLE t (id bigserial PRIMARY KEY, v text)");
    pair_->start();
    pair_->on_master("INSERT INTO t (v) VALUES ('before')");
    pair_->wait_applied();
  }

  std::string wal_status() const {
    return query_value(pair_->master(),
                       "SELECT wal_status FROM pg_replication_slots WHERE slot_name = 'bitacora_" +
                           pair_->name() + "'");
  }

  std::string reader() const {
    const auto status = Pair::bitacora({"status", "--http", pair_->sender_http(), "--json"}).output;
    return status.find(R"("reader":"catch_up")") != std::string::npos ? "catch_up" : status;
  }

  // More than max_slot_wal_keep_size; the checkpoint removes what is beyond it.
  void write_until_lost() const {
    ASSERT_TRUE(eventually(
        [&] {
          pair_->on_master(
              "INSERT INTO t (v) SELECT repeat(md5(i::text), 20) FROM generate_series(1, 20000) i");
          pair_->on_master("SELECT pg_switch_wal()");
          pair_->on_master("CHECKPOINT");
          return wal_status() == "lost";
        },
        kNoticed));
  }

  void expect_sender_says_it() {
    ASSERT_TRUE(pair_->sender().wait(kNoticed).has_value()) << pair_->story();
    expect_ends_refused(pair_->sender(), 3,
                        {"bitacora_" + pair_->name(), "was invalidated", "max_slot_wal_keep_size"});
    EXPECT_EQ(wal_status(), "lost") << "nobody made another one";
    EXPECT_EQ(query_value(pair_->standby(), "SELECT count(*) FROM t"), "1");
  }

  engine::ThrowawayCluster master_ = [] {
    engine::ClusterOptions options;
    options.settings = {
        {"max_slot_wal_keep_size", "16MB"}, {"max_wal_size", "32MB"}, {"checkpoint_timeout", "1h"}};
    return engine::ThrowawayCluster::make("lost_slot_master", options).value();
  }();
  std::optional<Pair> pair_;
};

TEST_F(LostSlot, WhileTheReceiverIsAway) {
  start();
  EXPECT_EQ(pair_->stop_receiver(), 0);
  write_until_lost();
  expect_sender_says_it();
}

TEST_F(LostSlot, WhileTheSenderIsAway) {
  start();
  EXPECT_EQ(pair_->stop_sender(), 0);
  write_until_lost();
  pair_->start_sender();
  expect_sender_says_it();
}

// While there is still time to do something.
TEST_F(LostSlot, IsToldOfAtHalfOfItsLimit) {
  start();
  EXPECT_EQ(pair_->stop_receiver(), 0);
  const auto told = [&](const std::string& event) {
    return pair_->story().find(event) != std::string::npos;
  };
  pair_->on_both("CREATE TABLE noise (v text)");
  ASSERT_TRUE(eventually(
      [&] {
        pair_->on_master(
            "INSERT INTO noise SELECT repeat(md5(i::text), 20) FROM generate_series(1, 500) i");
        std::this_thread::sleep_for(std::chrono::milliseconds(200));
        return told("event=slot_endangered") || wal_status() == "lost";
      },
      kNoticed));
  EXPECT_NE(wal_status(), "lost");
  EXPECT_TRUE(told("held_by=" + pair_->name())) << pair_->story();
  pair_->start_receiver();
  pair_->wait_applied();
  EXPECT_TRUE(eventually([&] {
    pair_->on_master("CHECKPOINT");
    return told("event=slot_safe");
  })) << pair_->story();
}

// Its walsender is ended for it.
TEST_F(LostSlot, WhileTheSpoolIsFull) {
  start({"--spool-max-size", "100kB", "--spool-keep-size", "0"});
  pqxx::connection holder(pair_->standby());
  pqxx::work lock(holder);
  lock.exec("LOCK TABLE t IN ACCESS EXCLUSIVE MODE");
  write_until_lost();
  lock.abort();
  ASSERT_TRUE(pair_->sender().wait(kNoticed).has_value()) << pair_->story();
  expect_ends_refused(pair_->sender(), 3,
                      {"bitacora_" + pair_->name(), "was invalidated", "max_slot_wal_keep_size"});
  EXPECT_EQ(wal_status(), "lost");
}

// Its copy is invalidated with it, in the middle of a range: nothing takes what it brings.
TEST_F(LostSlot, WhileABacklogIsRead) {
  start({"--spool-max-size", "100kB", "--spool-keep-size", "0"});
  EXPECT_EQ(pair_->stop_sender(), 0);
  execute(master_.conninfo(), "ALTER SYSTEM SET max_slot_wal_keep_size = '80MB'");
  execute(master_.conninfo(), "ALTER SYSTEM SET max_wal_size = '256MB'");
  execute(master_.conninfo(), "SELECT pg_reload_conf()");
  for (int i = 0; i < 50; ++i) {
    pair_->on_master(
        "INSERT INTO t (v) SELECT string_agg(encode(sha512(random()::text::bytea), 'hex'), '') "
        "FROM "
        "generate_series(1, 8000) i GROUP BY i % 1000");  // what does not compress fills the queues
  }
  pqxx::connection holder(pair_->standby());
  pqxx::work lock(holder);
  lock.exec("LOCK TABLE t IN ACCESS EXCLUSIVE MODE");
  pair_->start_sender();
  ASSERT_TRUE(eventually([&] { return reader() == "catch_up"; }, kNoticed)) << pair_->story();
  std::this_thread::sleep_for(std::chrono::seconds(1));
  ASSERT_EQ(reader(), "catch_up") << "it is over before the slot is lost\n" << pair_->story();
  write_until_lost();
  lock.abort();
  expect_ends_refused(pair_->sender(), 3,
                      {"bitacora_" + pair_->name(), "was invalidated", "max_slot_wal_keep_size"});
  EXPECT_EQ(wal_status(), "lost");
}

// A physical standby of the master takes its place: the same system identifier, another timeline,
// and no slot of ours, as physical standbys before PostgreSQL 17 do not have them.
class PromotedMaster : public testing::Test {
 protected:
  void SetUp() override {
    pair_.on_both("CREATE TABLE t (id int PRIMARY KEY)");
    pair_.start();
    insert(pair_.master(), 1);
    pair_.wait_applied();
  }

  static void insert(const std::string& conninfo, int id) {
    execute(conninfo, "INSERT INTO t VALUES (" + std::to_string(id) + ")");
  }

  // It gets what the master has now, and no more. The master stays down.
  void copy_the_master(Slots slots) {
    check(promoted_.stop());
    check(master_.stop());
    make_standby(master_, promoted_, slots);
  }

  void make_standby_of_the_master(Slots slots = Slots::kLeftBehind) {
    copy_the_master(slots);
    check(master_.start());
  }

  void promote() {
    check(promoted_.start());
    execute(promoted_.conninfo(), "SELECT pg_promote()");
  }

  std::string promoted() const { return promoted_.conninfo(pair_.name()); }

  // A sender of the promoted server, at the old one's address.
  Process new_sender() {
    return Process(sender_command(
        pair_, {{"--master", promoted()}, {"--state-dir", pair_.state_dir() / "promoted"}}));
  }

  void expect_receiver_stops(const std::vector<std::string>& words) {
    ASSERT_TRUE(pair_.receiver().wait(kNoticed).has_value()) << pair_.story();
    expect_ends_refused(pair_.receiver(), 3, words);
  }

  engine::ThrowawayCluster master_ = engine::ThrowawayCluster::make("promoted_old").value();
  engine::ThrowawayCluster promoted_ = engine::ThrowawayCluster::make("promoted_new").value();
  Pair pair_{master_, shared_standby()};
};

TEST_F(PromotedMaster, HasNoSlotOfOurs) {
  EXPECT_EQ(pair_.stop_sender(), 0);
  make_standby_of_the_master();
  promote();
  expect_refused(run(sender_command(pair_, {{"--master", promoted()}})), 3,
                 {"bitacora_" + pair_.name(), "is gone", "bitacora drop"});
}

TEST_F(PromotedMaster, WroteWhatNobodyShipped) {
  EXPECT_EQ(pair_.stop_sender(), 0);
  make_standby_of_the_master();
  promote();
  insert(promoted(), 2);
  Process sender = new_sender();
  expect_receiver_stops({"needs changes from", "the gap", "--begin-anew"});
  EXPECT_EQ(query_value(pair_.standby(), "SELECT count(*) FROM t"), "1");
}

TEST_F(PromotedMaster, LacksWhatWasShipped) {
  EXPECT_EQ(pair_.stop_sender(), 0);
  make_standby_of_the_master();
  pair_.start_sender();
  execute(pair_.master(), "INSERT INTO t SELECT generate_series(2, 10000)");
  pair_.wait_applied();
  EXPECT_EQ(pair_.stop_sender(), 0);
  promote();
  Process sender = new_sender();
  expect_receiver_stops({"older state of the master"});
}

// Positions alone say that nothing is amiss.
TEST_F(PromotedMaster, GrewPastWhatWasShipped) {
  EXPECT_EQ(pair_.stop_sender(), 0);
  make_standby_of_the_master(Slots::kTaken);
  pair_.start_sender();
  insert(pair_.master(), 2);
  pair_.wait_applied();
  pair_.stop();
  promote();
  execute(promoted(), "INSERT INTO t SELECT generate_series(1000, 30000)");
  EXPECT_EQ(query_value(promoted(), "SELECT pg_current_wal_lsn() > '" +
                                        query_value(pair_.standby(),
                                                    "SELECT applied_lsn FROM bitacora.progress") +
                                        "'"),
            "t");
  Process sender(sender_command(pair_, {{"--master", promoted()}}));
  pair_.start_receiver();
  expect_receiver_stops({"of timeline 1, which this master left at", "their histories differ"});
  EXPECT_EQ(query_value(pair_.standby(), "SELECT count(*) FROM t"), "2");
}

// Under the sender's eyes: its conninfo names both hosts.
TEST_F(PromotedMaster, IsGoneOnWithWhenItHasEverything) {
  EXPECT_EQ(pair_.stop_sender(), 0);
  const auto both = fmt::format("host=127.0.0.1,127.0.0.1 port={},{} dbname={} user=postgres",
                                master_.port(), promoted_.port(), pair_.name());
  check(promoted_.stop());
  Process sender(sender_command(pair_, {{"--master", both}}));
  insert(pair_.master(), 2);
  pair_.wait_applied();
  copy_the_master(Slots::kTaken);
  promote();
  insert(promoted(), 3);
  EXPECT_TRUE(eventually([&] {
    return query_value(pair_.standby(), "SELECT count(*) FROM t") == "3";
  })) << pair_.story()
      << sender.error_output();
  EXPECT_NE(sender.error_output().find("event=timeline_changed from=1 to=2"), std::string::npos)
      << sender.error_output();
}

}  // namespace
}  // namespace bitacora::harness
