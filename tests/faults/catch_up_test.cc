// A backlog is read from a temporary copy of the slot, and the live reader goes on behind it: each
// transaction once, whoever dies meanwhile, and where the master gives no copy the live reader
// reads it all. BITACORA_CATCH_UP_KILLS (5; 100 is the long form).
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <optional>
#include <random>
#include <thread>

#include <fmt/format.h>

#include "tests/postgres/database.h"
#include "tests/postgres/pair.h"

namespace bitacora::harness {
namespace {

constexpr std::chrono::minutes kPatience{3};

class CatchUp : public testing::Test {
 protected:
  void make(const std::map<std::string, std::string>& settings = {}) {
    engine::ClusterOptions options;
    options.settings = settings;
    master_.emplace(engine::ThrowawayCluster::make("catch_up_master", options).value());
    PairOptions pair_options;
    pair_options.binary = BITACORA_FAULTS_BINARY;
    pair_.emplace(*master_, shared_standby(), pair_options);
    pair_->on_both("CREATE TABLE t (id bigint PRIMARY KEY, v text)");
    pair_->start();
    pair_->on_master("INSERT INTO t VALUES (0, 'first')");
    pair_->wait_applied();
  }

  // Transactions of 200 rows of 1 kB, more than the live reader is left with.
  void write_backlog(int transactions) {
    pair_->on_master(fmt::format(
        "DO $$ BEGIN FOR i IN 0..{} LOOP INSERT INTO t SELECT n, repeat(md5(n::text), 32)"
        " FROM generate_series({} + 200 * i, {} + 200 * i) AS n; COMMIT; END LOOP; END $$",
        transactions - 1, written_, written_ + 199));
    written_ += 200 * transactions;
  }

  // So that nothing before the backlog has to be read again, and it comes in several ranges: a
  // checkpoint says which transactions are open.
  void bring_the_slot_up() {
    ASSERT_TRUE(eventually([&] {
      pair_->on_master("CHECKPOINT");
      pair_->on_master(fmt::format("INSERT INTO t VALUES ({}, 'newest')", written_mark_--));
      pair_->wait_applied();
      return query_value(pair_->master(),
                         "SELECT confirmed_flush_lsn - restart_lsn < 1000000 FROM "
                         "pg_replication_slots WHERE NOT temporary") == "t";
    }));
  }

  void expect_all_there() {
    pair_->wait_applied(kPatience);
    EXPECT_TRUE(pair_->same_content("public.t"));
    EXPECT_EQ(query_value(pair_->standby(), "SELECT count(*) FROM t"),
              query_value(pair_->master(), "SELECT count(*) FROM t"));
  }
  void expect_only_its_slot() {
    EXPECT_TRUE(eventually([&] {
      return query_value(pair_->master(),
                         "SELECT string_agg(slot_name, ' ') FROM "
                         "pg_replication_slots WHERE slot_name NOT LIKE 'other%'") ==
             "bitacora_" + pair_->name();
    }));
  }
  bool said(const std::string& words) const {
    return pair_->story().find(words) != std::string::npos;
  }

  int written_ = 1;
  int written_mark_ = -1'000'000;
  std::optional<engine::ThrowawayCluster> master_;
  std::optional<Pair> pair_;
};

TEST_F(CatchUp, ABacklogComesFromACopyOfTheSlot) {
  make();
  EXPECT_EQ(pair_->stop_sender(), 0);
  write_backlog(100);
  pair_->start_sender();
  expect_all_there();
  EXPECT_TRUE(said("event=catching_up")) << pair_->story();
  pair_->on_master("INSERT INTO t VALUES (-1, 'last')");
  expect_all_there();
  expect_only_its_slot();
}

// So that the live reader that falls behind hands over, too.
TEST_F(CatchUp, TheSenderIsKilledInTheMiddleAndSomebodyWrites) {
  make();
  const char* text = std::getenv("BITACORA_CATCH_UP_KILLS");
  const int kills = text != nullptr ? std::atoi(text) : 5;
  const auto seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  EXPECT_EQ(pair_->stop_sender(), 0);
  write_backlog(100);
  std::jthread writer([this](const std::stop_token& stop) {
    for (int id = -1; !stop.stop_requested(); --id)
      pair_->on_master(fmt::format("INSERT INTO t VALUES ({}, 'meanwhile')", id));
  });
  for (int i = 0; i < kills; ++i) {
    pair_->start_sender();
    std::this_thread::sleep_for(
        std::chrono::milliseconds(std::uniform_int_distribution<int>(50, 1500)(random)));
    pair_->kill_sender();
    write_backlog(50);
  }
  pair_->start_sender();
  writer.request_stop();
  writer.join();
  expect_all_there();
  EXPECT_TRUE(said("event=catching_up")) << pair_->story();
  expect_only_its_slot();
}

// The copy goes with its connection, and the slot has moved by what was durable, or has not.
TEST_F(CatchUp, TheSenderIsKilledWhereStateChangesHands) {
  make();
  for (const std::string fault :
       {"range.begun:1", "range.fetched:1", "slot.before_advance:1", "slot.after_advance:1"}) {
    SCOPED_TRACE(fault);
    ASSERT_NO_FATAL_FAILURE(bring_the_slot_up());
    EXPECT_EQ(pair_->stop_sender(), 0);
    write_backlog(fault.starts_with("slot.") ? 600 : 100);  // far enough for the slot to move
    pair_->start_sender({"BITACORA_FAULT=" + fault});
    ASSERT_TRUE(eventually([&] { return !pair_->sender().running(); }, kPatience))
        << "it was not reached\n"
        << pair_->story();
    pair_->kill_sender();
    pair_->start_sender();
    expect_all_there();
    expect_only_its_slot();
  }
}

// Said once: the live reader does it.
TEST_F(CatchUp, WithoutAFreeSlot) {
  make({{"max_replication_slots", "2"}});
  pair_->on_master("SELECT pg_create_physical_replication_slot('other')");
  EXPECT_EQ(pair_->stop_sender(), 0);
  write_backlog(100);
  pair_->start_sender();
  expect_all_there();
  EXPECT_TRUE(said("event=catch_up_declined")) << pair_->story();
  EXPECT_FALSE(said("event=catching_up"));
}

TEST_F(CatchUp, WithoutRoomForTemporaryFiles) {
  make({{"work_mem", "64kB"}});
  EXPECT_EQ(pair_->stop_sender(), 0);
  write_backlog(100);
  pair_->on_master("ALTER SYSTEM SET temp_file_limit = '1MB'");
  pair_->on_master("SELECT pg_reload_conf()");
  pair_->start_sender();
  pair_->wait_applied(kPatience);
  pair_->on_master("ALTER SYSTEM RESET temp_file_limit");
  pair_->on_master("SELECT pg_reload_conf()");
  ASSERT_TRUE(
      eventually([&] { return query_value(pair_->master(), "SHOW temp_file_limit") == "-1"; }));
  expect_all_there();
  EXPECT_TRUE(said("event=catch_up_declined")) << pair_->story();
}

}  // namespace
}  // namespace bitacora::harness
