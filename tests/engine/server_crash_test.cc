// Servers that crash and lose what they may lose: a master whose slot remembers an older position,
// a standby that commits asynchronously.
//   BITACORA_MASTER_STOPS (5)
#include <gtest/gtest.h>

#include <signal.h>

#include <cstdlib>
#include <iostream>
#include <thread>

#include <fmt/format.h>

#include "tests/engine/refusal.h"
#include "tests/postgres/database.h"

namespace bitacora::harness {
namespace {

using StopMode = engine::ThrowawayCluster::StopMode;

constexpr std::chrono::seconds kCaughtUpWithin{60};

void check(const Result<void>& done) {
  if (!done.ok()) throw std::runtime_error(one_line(done.error()));
}

int master_stops() {
  const char* text = std::getenv("BITACORA_MASTER_STOPS");
  return text != nullptr ? std::atoi(text) : 5;
}

// No key that could hide a repetition.
constexpr const char* kHistory = "CREATE TABLE history (id bigserial, v text)";

// After every stop the master sends again what it had confirmation for.
TEST(MasterCrash, ImmediateStopsRepeatNothing) {
  auto master = engine::ThrowawayCluster::make("crash_master").value();
  Pair pair(master, shared_standby());
  pair.on_both(kHistory);
  pair.start();
  for (int stop = 1; stop <= master_stops() && !testing::Test::HasFailure(); ++stop) {
    for (int i = 0; i < 20; ++i) pair.on_master("INSERT INTO history (v) VALUES ('one')");
    pair.on_master("INSERT INTO history (v) SELECT 'many' FROM generate_series(1, 2000)");
    // In turn before, while and after everything is applied.
    if (stop % 3 == 0) pair.wait_applied();
    if (stop % 3 == 1) std::this_thread::sleep_for(std::chrono::milliseconds(stop * 7 % 50));
    check(master.stop(StopMode::kImmediate));
    check(master.start());
    pair.wait_applied(kCaughtUpWithin);
    EXPECT_TRUE(pair.same_content("public.history")) << "after stop " << stop;
  }
  std::cout << fmt::format("{} immediate stops, {} rows\n", master_stops(),
                           query_value(pair.standby(), "SELECT count(*) FROM history"));
}

std::string applied(const Pair& pair) {
  return query_value(pair.standby(), "SELECT applied_lsn FROM bitacora.progress");
}

// Nothing writes the standby's WAL out by itself: a crash takes what was committed since.
engine::ThrowawayCluster forgetful_standby() {
  engine::ClusterOptions options;
  options.settings = {{"autovacuum", "off"}};
  return engine::ThrowawayCluster::make("crash_standby", options).value();
}

// Once changes are applied: what comes before them is flushed. It is stopped asleep, since it could
// hold a lock that every flush wants.
void hold_the_walwriter(const Pair& pair) {
  ASSERT_TRUE(eventually([&] { return pair.said("event=applying") > 0; })) << pair.story();
  const auto pid = std::stoi(query_value(
      pair.standby(), "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'"));
  ASSERT_TRUE(eventually([&] {
    if (::kill(pid, SIGSTOP) != 0) return false;
    const auto waits_for = query_value(
        pair.standby(), "SELECT wait_event FROM pg_stat_activity WHERE backend_type = 'walwriter'");
    if (waits_for == "WalWriterMain") return true;
    ::kill(pid, SIGCONT);
    return false;
  }));
}

TEST(StandbyCrash, ItsLostTailComesAgainFromTheSpool) {
  auto standby = forgetful_standby();
  PairOptions options;
  options.receiver_arguments = {"--spool-keep-time", "0", "--spool-keep-size", "0"};
  Pair pair(shared_master(), standby, options);
  pair.on_both(kHistory);
  pair.start();
  pair.wait_applied();
  hold_the_walwriter(pair);
  for (int segment = 0; segment < 3; ++segment) {  // a new connection begins one
    for (int i = 0; i < 50; ++i) pair.on_master("INSERT INTO history (v) VALUES ('tail')");
    pair.wait_applied();
    EXPECT_EQ(pair.stop_sender(), 0);
    pair.start_sender();
  }
  pair.wait_applied();
  EXPECT_EQ(query_value(pair.standby(), "SELECT count(*) FROM history"), "150");
  const auto before = applied(pair);
  std::this_thread::sleep_for(std::chrono::seconds(3));  // the spool is tidied every second
  EXPECT_EQ(pair.stop_sender(), 0);                      // and the slot has moved on
  check(standby.kill());
  check(standby.start());
  EXPECT_TRUE(eventually([&] {
    return query_value(pair.standby(), "SELECT count(*) FROM history") == "150";
  })) << pair.story();
  EXPECT_NE(pair.story().find("event=session_lost"), std::string::npos);
  std::cout << fmt::format("applied up to {} before the crash\n", before);
  pair.start_sender();
  pair.on_master("INSERT INTO history (v) VALUES ('after')");
  pair.wait_applied(kCaughtUpWithin);
  EXPECT_TRUE(pair.same_content("public.history"));
}

// Without a receiver nothing mends it: this is what the case above relies on.
TEST(StandbyCrash, ReallyLosesItsTail) {
  auto standby = forgetful_standby();
  Pair pair(shared_master(), standby);
  pair.on_both(kHistory);
  pair.start();
  pair.wait_applied();
  hold_the_walwriter(pair);
  for (int i = 0; i < 50; ++i) pair.on_master("INSERT INTO history (v) VALUES ('tail')");
  pair.wait_applied();
  pair.kill_receiver();
  check(standby.kill());
  check(standby.start());
  EXPECT_LT(std::stoi(query_value(pair.standby(), "SELECT count(*) FROM history")), 50);
  pair.start_receiver();
  pair.wait_applied(kCaughtUpWithin);
  EXPECT_TRUE(pair.same_content("public.history"));
}

}  // namespace
}  // namespace bitacora::harness
