// A first copy of 20 tables under load, and a resync, whoever dies meanwhile: all tables equal at
// the end. BITACORA_COPY_KILLS (6; 50 is the long form), BITACORA_SEED.
#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>
#include <optional>
#include <random>
#include <thread>

#include <fmt/format.h>

#include "tests/faults/seed.h"
#include "tests/postgres/database.h"
#include "tests/postgres/pair.h"

namespace bitacora::harness {
namespace {

using std::chrono::milliseconds;

constexpr int kTables = 20;
constexpr std::chrono::minutes kPatience{3};

int wanted_kills() {
  const char* text = std::getenv("BITACORA_COPY_KILLS");
  return text != nullptr ? std::atoi(text) : 6;
}

PairOptions options_of(int round) {
  PairOptions options;
  options.name = case_name() + "_" + std::to_string(round);
  options.copy = true;
  options.receiver_arguments = {"--split-tables-larger-than", "1MB"};
  return options;
}

// Tables of 0 to some 12 MB, the same on both sides but for the rows.
void make_tables(const Pair& pair) {
  for (int i = 0; i < kTables; ++i) {
    pair.on_both(fmt::format("CREATE TABLE t{} (id bigint PRIMARY KEY, n bigint, v text)", i));
    pair.on_master(
        fmt::format("INSERT INTO t{} SELECT i, 0, repeat(md5(i::text), 1 + (i % 5)::int) "
                    "FROM generate_series(1, {}) i",
                    i, i * i * 200));
  }
}

// Every kind of change, in all tables, and keys that move between what is copied and what is not.
void write(const Pair& pair, std::mt19937& random) {
  std::string sql = "BEGIN;";
  for (int i = 0; i < 4; ++i) {
    const auto t = random() % kTables;
    const auto k = random() % 10'000 + 1;
    sql += fmt::format(
        "INSERT INTO t{0} SELECT {1} + i, {1}, 'new' FROM generate_series(0, 9) i ON CONFLICT DO "
        "NOTHING; UPDATE t{0} SET n = n + 1 WHERE id BETWEEN {2} AND {2} + 20;"
        "UPDATE t{0} SET id = id + 2000000000 WHERE id = {2} + 30;"
        "DELETE FROM t{0} WHERE id BETWEEN {2} + 40 AND {2} + 45;",
        t, 1'000'000 + random() % 1'000'000'000, k);
  }
  pair.on_master(sql + "COMMIT");
}

class Writer {
 public:
  Writer(const Pair& pair, std::mt19937::result_type seed)
      : thread_([&pair, random = std::mt19937(seed)](const std::stop_token& stop) mutable {
          while (!stop.stop_requested()) write(pair, random);
        }) {}

 private:
  std::jthread thread_;
};

// A resync that was asked for last may still go on.
void expect_equal(Pair& pair) {
  pair.wait_applied(kPatience);
  for (int i = 0; i < kTables; ++i) {
    SCOPED_TRACE(i);
    EXPECT_TRUE(eventually([&] { return pair.same_content(fmt::format("public.t{}", i)); }));
  }
  if (testing::Test::HasFailure()) std::cout << pair.story();
}

bool copies_first(const Pair& pair) {
  return query_value(pair.standby(), "SELECT to_regclass('bitacora.progress') IS NOT NULL") ==
             "t" &&
         query_value(pair.standby(),
                     "SELECT count(*) FROM bitacora.progress WHERE applied_lsn = '0/0'") == "1";
}

void kill_one(Pair& pair, std::mt19937& random) {
  if (random() % 3 == 0) {
    pair.kill_sender();
    pair.start_sender();
  } else {
    pair.kill_receiver();
    pair.start_receiver();
  }
}

TEST(CopyKill, FirstCopy) {
  std::mt19937 random(seed());
  int kills = 0;
  int rounds = 0;
  for (; kills < wanted_kills() && !HasFailure(); ++rounds) {
    Pair pair(options_of(rounds));
    make_tables(pair);
    std::optional<Writer> writer(std::in_place, pair, random());
    pair.start();
    for (int i = 0; i < 8; ++i) {
      std::this_thread::sleep_for(milliseconds(random() % 700));
      if (!copies_first(pair)) continue;
      kill_one(pair, random);
      ++kills;
    }
    writer.reset();
    expect_equal(pair);
  }
  std::cout << kills << " kills in " << rounds << " first copies of " << kTables << " tables\n";
}

// The others go on; what was wrong in the table is made good.
TEST(CopyKill, Resync) {
  std::mt19937 random(seed());
  int kills = 0;
  Pair pair(options_of(0));
  make_tables(pair);
  pair.start();
  pair.wait_applied(kPatience);
  std::optional<Writer> writer(std::in_place, pair, random());
  for (int round = 0; kills < wanted_kills() && !HasFailure(); ++round) {
    const auto table = fmt::format("public.t{}", 10 + random() % 10);
    EXPECT_TRUE(eventually(
        [&] {
          return Pair::bitacora({"resync", "--http", pair.receiver_http(), table}).exit_code == 0;
        },
        kPatience))
        << pair.story();
    // The next one is killed in the middle.
    Process asking({BITACORA_BINARY, "resync", "--http", pair.receiver_http(), table});
    std::this_thread::sleep_for(milliseconds(random() % 500));
    kill_one(pair, random);
    ++kills;
    EXPECT_TRUE(eventually(
        [&] {
          return query_value(pair.standby(),
                             "SELECT count(*) FROM bitacora.copied_tables WHERE NOT copied OR "
                             "hold_lsn <> '0/0'") == "0";
        },
        kPatience))
        << pair.story();
    EXPECT_TRUE(eventually([&] {
      return Pair::bitacora({"status", "--http", pair.receiver_http(), "--json"})
                 .output.find("\"state\":\"streaming\"") != std::string::npos;
    }));
  }
  writer.reset();
  expect_equal(pair);
  std::cout << kills << " kills in resyncs\n";
}

}  // namespace
}  // namespace bitacora::harness
