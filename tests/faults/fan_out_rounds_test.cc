// Many receivers of one slot under load, with a subset of the tables each, that are stopped,
// killed, added, forgotten and started again, and the sender killed now and then: each database is
// equal to the master's for its subset at the end, and who was forgotten never goes on over a gap.
// BITACORA_FAN_OUT_ROUNDS (8; 50 is the long form), BITACORA_SEED.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <list>
#include <map>
#include <optional>
#include <random>
#include <thread>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "tests/engine/named_receiver.h"
#include "tests/faults/seed.h"
#include "tests/postgres/database.h"
#include "tests/postgres/pair.h"

namespace bitacora::harness {
namespace {

using std::chrono::milliseconds;

constexpr unsigned kTables = 6;
constexpr std::size_t kFollowersMax = 6;
constexpr milliseconds kPause{20};
constexpr std::chrono::minutes kPatience{2};

int wanted_rounds() {
  const char* text = std::getenv("BITACORA_FAN_OUT_ROUNDS");
  return text != nullptr ? std::atoi(text) : 8;
}

std::string table(unsigned number) { return fmt::format("public.t{}", number); }

void make_tables(const std::string& conninfo) {
  for (unsigned i = 0; i < kTables; ++i)
    execute(conninfo, fmt::format("CREATE TABLE t{} (id bigint PRIMARY KEY, n bigint, v text)", i));
}

// Every kind of change in some tables; one in a hundred is large.
void write(const Pair& pair, std::mt19937& random) {
  std::string sql = "BEGIN;";
  const auto rows = random() % 100 == 0 ? 10'000u : 10u;
  for (int i = 0; i < 3; ++i) {
    const auto t = random() % kTables;
    const auto k = random() % 3000 + 1;
    sql += fmt::format(
        "INSERT INTO t{0} SELECT {1} + i, {1}, repeat('new', 10) FROM generate_series(1, {3}) i ON "
        "CONFLICT DO NOTHING; UPDATE t{0} SET n = n + 1 WHERE id BETWEEN {2} AND {2} + 20;"
        "UPDATE t{0} SET id = id + 2000000000 WHERE id = {2} + 30;"
        "DELETE FROM t{0} WHERE id BETWEEN {2} + 40 AND {2} + 45 OR id BETWEEN 1000000 + {2} * "
        "1000 AND 1000000 + {2} * 1000 + 100000;",
        t, 1'000'000 + random() % 100'000'000, k, rows);
  }
  pair.on_master(sql + "COMMIT");
}

class Writer {
 public:
  Writer(const Pair& pair, std::mt19937::result_type seed)
      : thread_([&pair, random = std::mt19937(seed)](const std::stop_token& stop) mutable {
          while (!stop.stop_requested()) {
            write(pair, random);
            std::this_thread::sleep_for(kPause);  // six receivers and their copies share the host
          }
        }) {}

 private:
  std::jthread thread_;
};

struct Follower {
  Follower(const Pair& pair, const std::string& name, std::vector<unsigned> numbers)
      : receiver(pair, shared_standby(), name), tables(std::move(numbers)) {
    make_tables(receiver.standby());
  }

  void start() {
    std::vector<std::string> patterns;
    for (const auto number : tables) patterns.push_back(table(number));
    Changes options{{"--no-copy", ""}, {"--tables", fmt::format("{}", fmt::join(patterns, ","))}};
    if (begun_anew) options["--truncate"] = "true";
    receiver.start(options);
  }

  NamedReceiver receiver;
  std::vector<unsigned> tables;
  bool forgotten = false;
  bool begun_anew = false;  // it may be killed before that has begun
};

class FanOutRounds : public testing::Test {
 protected:
  FanOutRounds() : random_(seed()) {
    make_tables(pair_.master());
    for (unsigned i = 0; i < kTables; ++i)
      pair_.on_master(fmt::format(
          "INSERT INTO t{} SELECT i, 0, repeat('old', 10) FROM generate_series(1, 3000) i", i));
    pair_.start_sender();
    pair_.wait_for_slot();
  }

  void add() {
    std::vector<unsigned> all;
    for (unsigned i = 0; i < kTables; ++i) all.push_back(i);
    std::shuffle(all.begin(), all.end(), random_);
    all.resize(1 + random_() % kTables);
    followers_.emplace_back(pair_, fmt::format("r{}", ++added_), all);
    followers_.back().start();
    ++done_["added"];
  }
  // One that runs, or one that does not; null when there is none.
  Follower* any(bool running) {
    std::vector<Follower*> found;
    for (auto& each : followers_) {
      if (each.receiver.running() == running) found.push_back(&each);
    }
    return found.empty() ? nullptr : found[random_() % found.size()];
  }

  void act() {
    auto* running = any(true);
    auto* stopped = any(false);
    switch (random_() % 8) {
      case 0:
      case 1:
        if (running != nullptr) kill(*running);
        return;
      case 2:
        if (running != nullptr) stop(*running);
        return;
      case 3:
        if (followers_.size() < kFollowersMax) add();
        return;
      case 4:
      case 5:
        if (stopped != nullptr) forget(*stopped);
        return;
      case 6:
        if (stopped != nullptr) bring_back(*stopped);
        return;
      default:
        pair_.kill_sender();
        pair_.start_sender();
        ++done_["sender killed"];
    }
  }
  void kill(Follower& follower) {
    follower.receiver.kill();
    ++done_["killed"];
  }
  void stop(Follower& follower) {
    // Before it has said anything, it may not be listening to SIGTERM yet.
    EXPECT_TRUE(eventually([&] { return !follower.receiver.process().error_output().empty(); }));
    EXPECT_EQ(follower.receiver.stop(), 0) << follower.receiver.story();
    ++done_["stopped"];
  }

  // It may have gone before it was registered. The sender may be starting, or think that it is
  // connected, for a moment.
  void forget(Follower& follower) {
    Finished asked;
    const auto answered = [&] {
      asked = Pair::bitacora(
          {"sender", "--forget", follower.receiver.name(), "--http", pair_.sender_http()});
      return asked.exit_code == 0 || asked.error_output.find("is registered") != std::string::npos;
    };
    ASSERT_TRUE(eventually(answered, kPatience)) << asked.error_output << pair_.story();
    follower.forgotten = true;
    if (asked.exit_code == 0) ++done_["forgotten"];
  }

  // One that was forgotten may go on when it lacks nothing, else it is refused and begins anew.
  void bring_back(Follower& follower) {
    follower.start();
    ++done_["started again"];
    if (!std::exchange(follower.forgotten, false)) return;
    auto& receiver = follower.receiver;
    const auto written = query_value(pair_.master(), "SELECT pg_current_wal_lsn()");
    ASSERT_TRUE(
        eventually([&] { return !receiver.running() || receiver.has_applied(written); }, kPatience))
        << receiver.story() << pair_.story();
    if (receiver.running()) {
      ++done_["let in without a gap"];
      return;
    }
    receiver.expect_refused_for_state({receiver.name() + " needs changes from", "the gap"});
    receiver.forget_everything();
    follower.begun_anew = true;
    follower.start();
    ++done_["refused, and begun anew"];
  }

  void expect_equal(Follower& follower) {
    SCOPED_TRACE(follower.receiver.name());
    auto& receiver = follower.receiver;
    const auto written = query_value(pair_.master(), "SELECT pg_current_wal_lsn()");
    ASSERT_TRUE(
        eventually([&] { return !receiver.running() || receiver.has_applied(written); }, kPatience))
        << written << " is not applied\n"
        << Pair::bitacora({"status", "--http", receiver.http()}).output
        << Pair::bitacora({"status", "--http", pair_.sender_http()}).output;
    ASSERT_TRUE(receiver.running()) << "it ended by itself";
    for (unsigned i = 0; i < kTables; ++i) {
      SCOPED_TRACE(table(i));
      const bool taken =
          std::find(follower.tables.begin(), follower.tables.end(), i) != follower.tables.end();
      if (taken) {
        EXPECT_EQ(table_content(follower.receiver.standby(), table(i)),
                  table_content(pair_.master(), table(i)));
      } else {
        EXPECT_EQ(query_value(follower.receiver.standby(), "SELECT count(*) FROM " + table(i)),
                  "0");
      }
    }
  }

  void print_what_was_done(int rounds) const {
    std::cout << rounds << " rounds:";
    for (const auto& [what, times] : done_) std::cout << " " << times << " " << what << ",";
    std::cout << " " << followers_.size() << " databases equal\n";
  }

  std::mt19937 random_;
  Pair pair_;
  std::list<Follower> followers_;
  int added_ = 0;
  std::map<std::string, int> done_;
};

TEST_F(FanOutRounds, EachIsEqualAtTheEnd) {
  std::optional<Writer> writer(std::in_place, pair_, random_());
  for (int i = 0; i < 3; ++i) add();
  const int rounds = wanted_rounds();
  for (int round = 0; round < rounds && !HasFailure(); ++round) {
    for (int actions = 0; actions < 3 && !HasFailure(); ++actions) {
      act();
      std::this_thread::sleep_for(milliseconds(random_() % 500));
    }
  }
  for (auto& each : followers_) {
    if (!each.receiver.running() && !HasFailure()) bring_back(each);
  }
  writer.reset();
  for (auto& each : followers_) {
    if (!HasFailure()) expect_equal(each);
  }
  print_what_was_done(rounds);
  if (!HasFailure()) return;
  std::cout << pair_.story();
  for (const auto& each : followers_) std::cout << each.receiver.story();
}

// What the rounds meet by chance, for certain: the slot has moved on without the one that was
// forgotten, which has all its state.
TEST_F(FanOutRounds, WhoWasForgottenIsRefusedAndBeginsAnew) {
  add();
  add();
  auto& forgotten = followers_.front();
  for (auto& each : followers_) expect_equal(each);
  kill(forgotten);
  std::mt19937 random(1);
  write(pair_, random);
  forget(forgotten);
  write(pair_, random);
  expect_equal(followers_.back());
  const auto written = query_value(pair_.master(), "SELECT pg_current_wal_lsn()");
  ASSERT_TRUE(eventually([&] {
    return query_value(pair_.master(),
                       fmt::format("SELECT confirmed_flush_lsn >= '{}' FROM pg_replication_slots "
                                   "WHERE slot_name = 'bitacora_{}'",
                                   written, pair_.name())) == "t";
  }));
  bring_back(forgotten);
  EXPECT_EQ(done_["refused, and begun anew"], 1);
  for (auto& each : followers_) expect_equal(each);
}

}  // namespace
}  // namespace bitacora::harness
