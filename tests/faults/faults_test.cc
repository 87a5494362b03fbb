// The process that reaches a fault point ends there, as by kill -9. After every death the standby
// holds a prefix of what the master committed, each transaction once and in order; at the end,
// everything.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <pqxx/pqxx>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "tests/postgres/database.h"
#include "tests/postgres/pair.h"

namespace bitacora::harness {
namespace {

constexpr std::chrono::seconds kReachedWithin{30};
constexpr unsigned kShortKills = 52;  // each point twice
constexpr unsigned kKillsBetweenComparisons = 26;

struct Point {
  const char* name;
  bool of_sender;
  unsigned count_max;  // it is reached often: at a random one of its first times
};

constexpr Point kPoints[] = {
    {"feedback.before_send", true, 30},     {"feedback.after_send", true, 30},
    {"frame.before_send", true, 50},        {"ack.received", true, 50},
    {"sender_state.before_save", true, 1},  {"sender_state.after_save", true, 1},
    {"frame.received", false, 50},          {"ack.before_send", false, 30},
    {"ack.after_send", false, 30},          {"spool.before_append", false, 50},
    {"spool.after_append", false, 50},      {"spool.before_sync", false, 30},
    {"spool.after_sync", false, 30},        {"segment.before_create", false, 1},
    {"segment.after_create", false, 1},     {"segment.after_header", false, 1},
    {"segment.before_remove", false, 1},    {"segment.after_remove", false, 1},
    {"checkpoint.before_save", false, 2},   {"checkpoint.after_save", false, 2},
    {"apply.before_begin", false, 50},      {"apply.before_row", false, 500},
    {"apply.before_progress", false, 50},   {"apply.before_commit", false, 50},
    {"apply.after_commit_sent", false, 50}, {"apply.after_commit", false, 50},
};

unsigned setting(const char* name, unsigned otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr ? static_cast<unsigned>(std::atol(text)) : otherwise;
}

unsigned chosen_seed() {
  static const unsigned seed = setting("BITACORA_FAULT_SEED", std::random_device{}());
  return seed;
}

// Odd seeds write set-wise whatever arrives, even ones as it fits; every other two with four
// workers.
PairOptions with_fault_points() {
  PairOptions options;
  options.binary = BITACORA_FAULTS_BINARY;
  options.receiver_arguments = {"--spool-keep-time", "0",
                                "--spool-keep-size", "0",
                                "--apply-path",      chosen_seed() % 2 == 1 ? "fast" : "auto",
                                "--workers",         chosen_seed() % 4 >= 2 ? "4" : "1"};
  return options;
}

class Faults : public testing::Test {
 protected:
  // One writer: the numbers in `history`, which has no key that could hide a repetition, are in
  // commit order.
  void SetUp() override {
    pair_.on_both(
        "CREATE TABLE history (id bigint, delta bigint);"
        "CREATE TABLE account (id int PRIMARY KEY, balance bigint);"
        "INSERT INTO account SELECT i, 0 FROM generate_series(1, 100) AS i;"
        "CREATE TABLE bulk (id bigserial PRIMARY KEY, v text)");
    pair_.start();
    pair_.wait_applied();
    load_ = std::jthread([this](const std::stop_token& stop) { write(stop); });
  }

  void write(const std::stop_token& stop) {
    pqxx::connection master(pair_.master());
    for (long id = 1; !stop.stop_requested(); ++id) {
      pqxx::work transaction(master);
      transaction.exec(fmt::format("INSERT INTO history VALUES ({}, {})", id, id % 13));
      transaction.exec(fmt::format("UPDATE account SET balance = balance + {} WHERE id = {}",
                                   id % 13, id % 100 + 1));
      if (id % 50 == 0) {
        transaction.exec(
            "INSERT INTO bulk (v) SELECT repeat(md5(i::text), 20) FROM generate_series(1, 300) AS "
            "i");
        transaction.exec("DELETE FROM bulk WHERE id <= (SELECT max(id) - 2000 FROM bulk)");
      }
      transaction.commit();
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
  }

  // So that this connection has a segment of its own, and those before it can be removed.
  void wait_for_progress() {
    const auto grew = eventually([this] {
      const auto count = std::stol(query_value(pair_.standby(), "SELECT count(*) FROM history"));
      return std::exchange(applied_, std::max(applied_, count)) < count && count > 20;
    });
    ASSERT_TRUE(grew) << pair_.story();
  }

  void kill_at(const Point& point) {
    ASSERT_NO_FATAL_FAILURE(wait_for_progress());
    const auto count = std::uniform_int_distribution<unsigned>(1, point.count_max)(random_);
    const auto fault = fmt::format("BITACORA_FAULT={}:{}", point.name, count);
    SCOPED_TRACE(fault);
    if (point.of_sender) {
      pair_.kill_sender();
      pair_.start_sender({fault});
    } else {
      pair_.kill_receiver();
      pair_.start_receiver({fault});
    }
    Process& victim = point.of_sender ? pair_.sender() : pair_.receiver();
    const auto ended = victim.wait(kReachedWithin);
    ASSERT_EQ(ended, 128 + SIGKILL) << "it was not reached\n" << victim.error_output();
    expect_prefix();
    if (point.of_sender) {
      pair_.start_sender();
    } else {
      pair_.start_receiver();
    }
  }

  void expect_prefix() const {
    const auto wrong = query_value(pair_.standby(), R"(
        SELECT concat_ws(', ',
          (SELECT 'history holds ' || count(*) || ' up to ' || max(id) FROM history
            HAVING count(*) <> max(id) OR count(DISTINCT id) <> count(*)),
          (SELECT 'balances are ' || sum(balance) FROM account
            HAVING sum(balance) <> (SELECT coalesce(sum(delta), 0) FROM history))))");
    EXPECT_EQ(wrong, "");
  }

  void expect_everything() {
    pair_.wait_applied(std::chrono::minutes(1));
    expect_prefix();
  }

  std::mt19937 random_;
  long applied_ = 0;  // rows of history seen on the standby
  Pair pair_{with_fault_points()};
  std::jthread load_;
};

TEST_F(Faults, LoseAndRepeatNothing) {
  const auto kills = setting("BITACORA_FAULT_KILLS", kShortKills);
  std::cout << "BITACORA_FAULT_SEED=" << chosen_seed() << "\n";
  random_.seed(chosen_seed());
  std::vector<Point> points;
  for (unsigned kill = 1; kill <= kills && !HasFailure(); ++kill) {
    if (points.empty()) {
      points.assign(std::begin(kPoints), std::end(kPoints));
      std::shuffle(points.begin(), points.end(), random_);
    }
    kill_at(points.back());
    points.pop_back();
    if (kill % kKillsBetweenComparisons == 0) expect_everything();
  }
  load_ = {};
  if (!HasFailure()) expect_everything();
  for (const char* table : {"public.history", "public.account", "public.bulk"})
    EXPECT_TRUE(pair_.same_content(table)) << table;
  if (HasFailure()) std::cout << pair_.story();
  std::cout << fmt::format(
      "{} kills at {} points, {} transactions: {} lost, repeated or out of "
      "order\n",
      kills, std::size(kPoints), query_value(pair_.master(), "SELECT count(*) FROM history"),
      HasFailure() ? "some" : "0");
}

}  // namespace
}  // namespace bitacora::harness
