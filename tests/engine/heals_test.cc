// What heals is waited for: everything arrives, exactly once, and the log says little.
#include <gtest/gtest.h>

#include <functional>

#include "tests/engine/refusal.h"
#include "tests/postgres/database.h"

namespace bitacora::harness {
namespace {

using StopMode = engine::ThrowawayCluster::StopMode;

constexpr int kLinesMax = 22;  // of two lives of both processes, what is normal included
constexpr std::chrono::seconds kHealsWithin{60};

void check(const Result<void>& done) {
  if (!done.ok()) throw std::runtime_error(one_line(done.error()));
}

void restart(engine::ThrowawayCluster& cluster, StopMode mode) {
  check(cluster.stop(mode));
  check(cluster.start());
}

void kill_and_start(engine::ThrowawayCluster& cluster) {
  check(cluster.kill());
  check(cluster.start());
}

void cut(const std::string& conninfo, const std::string& condition) {
  const auto cuts = query_value(
      conninfo, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE " + condition);
  EXPECT_NE(cuts, "0") << condition;
}

struct Accident {
  std::string name;
  std::function<void()> happens;
};

class Heals : public testing::Test {
 protected:
  // The lines each process wrote since the case began, its normal ones included.
  void expect_heals(const Accident& accident) {
    SCOPED_TRACE(accident.name);
    Pair pair(master_, standby_);
    pair_ = &pair;
    pair.on_both("CREATE TABLE t (id bigserial PRIMARY KEY, v text)");
    pair.start();
    pair.on_master("INSERT INTO t (v) SELECT 'before' FROM generate_series(1, 1000)");
    pair.wait_applied();
    pair.on_master("INSERT INTO t (v) SELECT 'amid' FROM generate_series(1, 50000)");
    accident.happens();
    pair.on_master("INSERT INTO t (v) VALUES ('after')");
    pair.on_master("UPDATE t SET v = 'changed' WHERE id % 10 = 0");
    pair.wait_applied(kHealsWithin);
    EXPECT_TRUE(pair.same_content("public.t"));
    EXPECT_LT(event_lines(pair.story()), kLinesMax) << pair.story();
    pair.stop();
  }

  engine::ThrowawayCluster master_ = engine::ThrowawayCluster::make("healing_master").value();
  engine::ThrowawayCluster standby_ = engine::ThrowawayCluster::make("healing_standby").value();
  Pair* pair_ = nullptr;
};

TEST_F(Heals, Servers) {
  for (const Accident& accident : {
           Accident{"master stopped fast", [&] { restart(master_, StopMode::kFast); }},
           Accident{"master stopped at once", [&] { restart(master_, StopMode::kImmediate); }},
           Accident{"master killed", [&] { kill_and_start(master_); }},
           Accident{"standby stopped fast", [&] { restart(standby_, StopMode::kFast); }},
           Accident{"standby stopped at once", [&] { restart(standby_, StopMode::kImmediate); }},
           Accident{"standby killed", [&] { kill_and_start(standby_); }},
           Accident{"both killed",
                    [&] {
                      check(master_.kill());
                      kill_and_start(standby_);
                      check(master_.start());
                    }},
       }) {
    expect_heals(accident);
  }
}

TEST_F(Heals, ProcessesAndConnections) {
  for (const Accident& accident : {
           Accident{"sender killed",
                    [&] {
                      pair_->kill_sender();
                      pair_->start_sender();
                    }},
           Accident{"receiver killed",
                    [&] {
                      pair_->kill_receiver();
                      pair_->start_receiver();
                    }},
           Accident{"both killed, the receiver first again",
                    [&] {
                      pair_->kill_sender();
                      pair_->kill_receiver();
                      pair_->start_receiver();
                      pair_->start_sender();
                    }},
           Accident{"both processes back before both servers",
                    [&] {
                      check(master_.kill());
                      check(standby_.kill());
                      pair_->kill_sender();
                      pair_->kill_receiver();
                      pair_->start_sender();
                      pair_->start_receiver();
                      EXPECT_TRUE(eventually([&] {
                        const auto story = pair_->story();
                        return story.find("event=master_absent") != std::string::npos &&
                               story.find("event=session_lost") != std::string::npos;
                      }));
                      check(standby_.start());
                      check(master_.start());
                    }},
           Accident{"walsender cut", [&] { cut(pair_->master(), "backend_type = 'walsender'"); }},
           Accident{"all of the sender's connections cut",
                    [&] { cut(pair_->master(), "application_name LIKE 'bitacora%'"); }},
           Accident{"applier cut",
                    [&] { cut(pair_->standby(), "application_name LIKE 'bitacora%'"); }},
       }) {
    expect_heals(accident);
  }
}

TEST_F(Heals, ReceiverBeforeTheSender) {
  Pair pair(master_, standby_);
  pair.on_both("CREATE TABLE t (id int PRIMARY KEY)");
  pair.start_receiver();
  ASSERT_TRUE(
      eventually([&] { return pair.story().find("no sender answers") != std::string::npos; }));
  pair.start_sender();
  pair.wait_for_slot();
  pair.on_master("INSERT INTO t VALUES (1)");
  pair.wait_applied();
  EXPECT_TRUE(pair.same_content("public.t"));
  EXPECT_LT(event_lines(pair.story()), kLinesMax) << pair.story();
}

// Nothing is noted on either side yet.
TEST_F(Heals, StandbyLostDuringTheFirstStart) {
  Pair pair(master_, standby_);
  pair.on_both("CREATE TABLE t (id int PRIMARY KEY)");
  pair.start_receiver();
  ASSERT_TRUE(
      eventually([&] { return pair.story().find("no sender answers") != std::string::npos; }));
  check(standby_.stop());
  pair.start_sender();
  ASSERT_TRUE(eventually([&] {
    return pair.story().find("event=session_lost") != std::string::npos;
  })) << pair.story();
  EXPECT_FALSE(pair.receiver().wait(std::chrono::seconds(3)).has_value()) << pair.story();
  check(standby_.start());
  pair.wait_for_slot();
  pair.on_master("INSERT INTO t VALUES (1)");
  pair.wait_applied(kHealsWithin);
  EXPECT_TRUE(pair.same_content("public.t"));
  EXPECT_LT(event_lines(pair.story()), kLinesMax) << pair.story();
}

// Long enough for many attempts.
TEST_F(Heals, LongAbsenceIsToldOnce) {
  Pair pair(master_, standby_);
  pair.on_both("CREATE TABLE t (id int PRIMARY KEY)");
  pair.start();
  pair.wait_applied();
  check(master_.stop());
  check(standby_.stop());
  EXPECT_FALSE(pair.receiver().wait(std::chrono::seconds(8)).has_value()) << pair.story();
  EXPECT_TRUE(pair.sender().running());
  check(master_.start());
  check(standby_.start());
  pair.on_master("INSERT INTO t VALUES (1)");
  pair.wait_applied(kHealsWithin);
  EXPECT_TRUE(pair.same_content("public.t"));
  EXPECT_LT(event_lines(pair.story()), kLinesMax) << pair.story();
}

}  // namespace
}  // namespace bitacora::harness
