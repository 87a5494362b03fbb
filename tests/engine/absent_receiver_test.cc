// A receiver that is away holds the slot, up to --max-receiver-keep-size: then it is dropped, and
// has to begin anew when it comes back too late.
#include <gtest/gtest.h>

#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>
#include <pqxx/pqxx>
#include <string>
#include <thread>

#include "tests/engine/named_receiver.h"
#include "tests/postgres/database.h"
#include "tests/postgres/pair.h"

namespace bitacora::harness {
namespace {

using Json = nlohmann::json;
using std::chrono::seconds;

constexpr const char* kLimit = "20MB";
constexpr seconds kDroppedWithin{60};

class AbsentReceiver : public testing::Test {
 protected:
  void make(std::vector<std::string> receiver_arguments = {}) {
    PairOptions options;
    options.sender_arguments = {"--max-receiver-keep-size", kLimit};
    options.receiver_arguments = std::move(receiver_arguments);
    master_.emplace(engine::ThrowawayCluster::make("absent_master").value());
    pair_.emplace(*master_, shared_standby(), options);
    away_.emplace(*pair_, shared_standby(), "away");
    const std::string table = "CREATE TABLE t (id bigserial PRIMARY KEY, v text)";
    pair_->on_both(table);
    execute(away_->standby(), table);
    pair_->start();
    away_->start();
    insert(1);
    pair_->wait_applied();
    away_->wait_applied(wal_end());
  }
  void TearDown() override {
    if (HasFailure() && pair_) std::cout << pair_->story() << away_->story();
    away_.reset();
    pair_.reset();
  }

  std::string wal_end() const {
    return query_value(pair_->master(), "SELECT pg_current_wal_lsn()");
  }
  // Rows of 1 kB in one transaction.
  void insert(int rows) const {
    pair_->on_master(
        "INSERT INTO t (v) SELECT repeat(md5(random()::text), 32) FROM generate_series(1, " +
        std::to_string(rows) + ")");
  }
  // Much more than the limit, a segment of 16 MB each time.
  void write_much_wal() const {
    for (int i = 0; i < 4; ++i) {
      insert(1);
      pair_->on_master("SELECT pg_switch_wal()");
    }
    insert(1);
  }
  Json status() const {
    const auto shown = Pair::bitacora({"status", "--http", pair_->sender_http(), "--json"});
    return shown.exit_code == 0 ? Json::parse(shown.output) : Json{};
  }
  bool is_dropped() const {
    const auto now = status();
    return now.is_object() && now["dropped_receivers"].size() == 1 &&
           now["dropped_receivers"][0]["name"] == "away";
  }
  bool slot_passes(const std::string& lsn) const {
    return eventually([&] {
      return query_value(pair_->master(), "SELECT confirmed_flush_lsn > '" + lsn +
                                              "' FROM pg_replication_slots WHERE slot_name = "
                                              "'bitacora_" +
                                              pair_->name() + "'") == "t";
    });
  }
  void expect_equal() {
    pair_->wait_applied();
    away_->wait_applied(wal_end());
    const auto content = table_content(pair_->master(), "public.t");
    EXPECT_EQ(table_content(pair_->standby(), "public.t"), content);
    EXPECT_EQ(table_content(away_->standby(), "public.t"), content);
  }

  std::optional<engine::ThrowawayCluster> master_;
  std::optional<Pair> pair_;
  std::optional<NamedReceiver> away_;
};

TEST_F(AbsentReceiver, IsDropped) {
  make();
  away_->kill();
  const auto had = wal_end();
  write_much_wal();
  const auto written = wal_end();
  EXPECT_TRUE(eventually([&] { return is_dropped(); }, kDroppedWithin));
  EXPECT_EQ(pair_->said("event=receiver_dropped receiver=away flushed="), 1);
  EXPECT_TRUE(slot_passes(had));
  pair_->wait_applied();
  EXPECT_TRUE(slot_passes(written) || wal_end() == written);
  EXPECT_TRUE(pair_->same_content("public.t"));
  EXPECT_EQ(registered_receivers(*pair_).find("away"), std::string::npos);
  const auto dropped = status()["dropped_receivers"][0];
  EXPECT_EQ(dropped["limit_bytes"], 20 << 20);
  EXPECT_FALSE(dropped["flushed_lsn"].is_null());
  EXPECT_NE(Pair::bitacora({"status", "--http", pair_->sender_http()})
                .output.find("receiver away   dropped at 20"),
            std::string::npos);
}

TEST_F(AbsentReceiver, ComesBackTooLate) {
  make();
  away_->kill();
  const auto had = wal_end();
  write_much_wal();
  ASSERT_TRUE(eventually([&] { return is_dropped(); }, kDroppedWithin));
  ASSERT_TRUE(slot_passes(had));
  pair_->kill_sender();
  pair_->start_sender();
  ASSERT_TRUE(eventually([&] { return is_dropped(); })) << "it is not restored";
  for (int time = 0; time < 2; ++time) {
    away_->start();
    away_->expect_refused_for_state({"receiver away needs changes from", "the gap",
                                     "it was dropped at 20", "--max-receiver-keep-size (20.0 MB)",
                                     "begin this receiver anew"});
  }
  away_->forget_everything();
  away_->start({{"--no-copy", ""}, {"--truncate", "true"}});
  insert(10);
  expect_equal();
  EXPECT_TRUE(eventually([&] { return !is_dropped(); }));
  pair_->stop_sender();
  pair_->start_sender();
  insert(10);
  expect_equal();
  EXPECT_FALSE(is_dropped());
}

// Whoever cannot be let in because the master is away is not away itself.
TEST_F(AbsentReceiver, IsNotAwayWhileTheMasterIs) {
  make();
  away_->stop();
  write_much_wal();
  pair_->wait_applied();
  ASSERT_TRUE(master_->stop(engine::ThrowawayCluster::StopMode::kImmediate).ok());
  away_->start();
  std::this_thread::sleep_for(seconds(20));  // longer than one has to be away
  ASSERT_TRUE(master_->start().ok());
  insert(1);
  expect_equal();
  EXPECT_EQ(pair_->said("event=receiver_dropped"), 0);
}

// The slot is still held by another one, whose spool is full: it is connected, and never dropped.
TEST_F(AbsentReceiver, ComesBackInTime) {
  make({"--spool-max-size", "100kB", "--spool-keep-size", "0"});
  pqxx::connection session(pair_->standby());
  std::optional<pqxx::work> lock(std::in_place, session);
  lock->exec("LOCK TABLE t IN ACCESS EXCLUSIVE MODE");
  for (int i = 0; i < 12; ++i) insert(500);
  away_->wait_applied(wal_end(), seconds(60));
  away_->kill();
  insert(500);
  write_much_wal();
  ASSERT_TRUE(eventually([&] { return is_dropped(); }, kDroppedWithin));
  EXPECT_EQ(status()["receivers"].size(), 1u);
  EXPECT_TRUE(status()["receivers"][0]["connected"]);
  away_->start();
  away_->wait_applied(wal_end(), seconds(60));
  EXPECT_FALSE(is_dropped());
  lock.reset();
  expect_equal();
  EXPECT_EQ(pair_->said("event=receiver_dropped"), 1);
}

// Nobody reads the slot then, and nobody holds it.
TEST_F(AbsentReceiver, MayBeTheOnlyOne) {
  make();
  EXPECT_EQ(
      Pair::bitacora({"sender", "--forget", "away", "--http", pair_->sender_http()}).exit_code, 3);
  away_->kill();
  ASSERT_TRUE(eventually([&] {
    return Pair::bitacora({"sender", "--forget", "away", "--http", pair_->sender_http()})
               .exit_code == 0;
  }));
  pair_->kill_receiver();
  write_much_wal();
  const auto written = wal_end();
  ASSERT_TRUE(
      eventually([&] { return status()["dropped_receivers"].size() == 1; }, kDroppedWithin));
  pair_->on_master("CHECKPOINT");
  EXPECT_TRUE(eventually([&] { return pair_->said("event=slot_released") > 0; }));
  pair_->start_receiver();
  expect_ends_refused(pair_->receiver(), 3, {"the gap", "it was dropped at"});
  EXPECT_TRUE(slot_passes(written) || status()["retained_bytes"] < 20 << 20);
  EXPECT_EQ(pair_->said("event=receiver_dropped"), 1);
}

// They have had no time to come back.
TEST_F(AbsentReceiver, OrIsItTheSender) {
  make();
  EXPECT_EQ(pair_->stop_sender(), 0);
  write_much_wal();
  pair_->start_sender();
  expect_equal();
  EXPECT_EQ(pair_->said("event=receiver_dropped"), 0);
}

}  // namespace
}  // namespace bitacora::harness
