// Transactions that are larger than the master's memory come while they are in progress: in parts,
// which count from their commit on.
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <optional>
#include <pqxx/pqxx>

#include "tests/postgres/database.h"
#include "tests/postgres/pair.h"
#include "tests/postgres/servers.h"

namespace bitacora::harness {
namespace {

namespace fs = std::filesystem;

constexpr std::chrono::seconds kPatience{60};
constexpr int kRows = 3000;  // several times the 64 kB

class Streaming : public testing::Test {
 protected:
  void start(Pair& pair) {
    pair_ = &pair;
    pair.on_master(
        fmt::format("ALTER DATABASE {} SET logical_decoding_work_mem = '64kB'", pair.name()));
    pair.on_both(
        "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE small (id int PRIMARY KEY)");
    pair.start();
  }

  static std::string rows(int from, const char* text) {
    return fmt::format("INSERT INTO t SELECT {0} + i, '{1}' || i FROM generate_series(1, {2}) AS i",
                       from, text, kRows);
  }

  std::size_t parts_on_disk() const {
    std::size_t files = 0;
    std::error_code not_yet;
    for (const auto& entry : fs::directory_iterator(pair_->data_dir() / "spool", not_yet))
      files += entry.path().extension() == ".streamed" ? 1u : 0u;
    return files;
  }
  // Parts of so many transactions are with the receiver, none of which has committed.
  void wait_for_parts(std::size_t files) const {
    EXPECT_TRUE(eventually([&] { return parts_on_disk() == files; }, kPatience))
        << parts_on_disk() << "\n"
        << pair_->story();
  }
  void expect_equal() const {
    pair_->wait_applied(kPatience);
    EXPECT_TRUE(pair_->same_content("public.t"));
    EXPECT_TRUE(pair_->same_content("public.small"));
    EXPECT_EQ(parts_on_disk(), 0u);
  }
  std::string on_standby(const std::string& sql) const {
    return query_value(pair_->standby(), sql);
  }

  Pair* pair_ = nullptr;
};

TEST_F(Streaming, PartsComeBeforeTheCommitAndCountAfterIt) {
  Pair pair;
  start(pair);
  pqxx::connection connection(pair.master());
  pqxx::work large(connection);
  large.exec(rows(0, "a"));
  wait_for_parts(1);
  pair.on_master("INSERT INTO small VALUES (1)");
  pair.wait_applied();
  EXPECT_EQ(on_standby("SELECT count(*) FROM small"), "1") << "it is not held back";
  EXPECT_EQ(on_standby("SELECT count(*) FROM t"), "0");
  large.exec("UPDATE t SET v = v || 'b' WHERE id % 3 = 0; DELETE FROM t WHERE id % 5 = 0");
  large.exec("INSERT INTO small VALUES (2)");
  large.commit();
  expect_equal();
}

TEST_F(Streaming, SubtransactionsThatRolledBackDoNotCount) {
  Pair pair;
  start(pair);
  pqxx::connection connection(pair.master());
  pqxx::work large(connection);
  large.exec(rows(0, "a"));
  large.exec("SAVEPOINT outer_one");
  large.exec(rows(10'000, "rolled back"));
  large.exec("SAVEPOINT inner_one");
  large.exec(rows(20'000, "rolled back too"));
  large.exec("RELEASE inner_one; ROLLBACK TO outer_one");
  large.exec(rows(10'000, "kept"));
  large.exec("SAVEPOINT last_one; TRUNCATE small; ROLLBACK TO last_one");
  pair.on_master("INSERT INTO small VALUES (1)");
  large.exec(rows(30'000, "kept"));
  large.commit();
  expect_equal();
  EXPECT_EQ(on_standby("SELECT count(*) FROM t"), std::to_string(3 * kRows));
}

TEST_F(Streaming, WhatIsRolledBackLeavesNothing) {
  Pair pair;
  start(pair);
  pqxx::connection connection(pair.master());
  {
    pqxx::work large(connection);
    large.exec(rows(0, "a"));
    wait_for_parts(1);
    pqxx::connection other(pair.master());
    pqxx::work second(other);
    second.exec(rows(10'000, "b"));
    wait_for_parts(2);
    large.abort();
    wait_for_parts(1);
    second.commit();
  }
  expect_equal();
  EXPECT_EQ(on_standby("SELECT count(*) FROM t"), std::to_string(kRows));
}

// A table's new shape holds for what comes after the transaction that made it.
TEST_F(Streaming, DescribesTablesForThoseThatFollow) {
  Pair pair;
  start(pair);
  pair.on_standby("ALTER TABLE t ADD n int");
  pair.on_master(
      "BEGIN; " + rows(0, "a") + "; ALTER TABLE t ADD n int; " +
      fmt::format("INSERT INTO t SELECT 10000 + i, 'b', i FROM generate_series(1, {}) i", kRows) +
      "; COMMIT");
  pair.on_master("INSERT INTO t VALUES (-1, 'c', 3)");
  expect_equal();
  pair.stop_receiver();
  pair.on_master("INSERT INTO t VALUES (-2, 'c', 4)");
  pair.start_receiver();
  expect_equal();
}

struct Break {
  const char* name;
  std::function<void(Pair&)> run;
};

class StreamingBroken : public Streaming, public testing::WithParamInterface<Break> {};

TEST_P(StreamingBroken, ComesAnewAndWhole) {
  PairOptions options;
  options.name = fmt::format("streaming_{}", GetParam().name);
  Pair pair(options);
  start(pair);
  pqxx::connection connection(pair.master());
  pqxx::work large(connection);
  large.exec(rows(0, "a"));
  large.exec("SAVEPOINT s; " + rows(10'000, "b") + "; ROLLBACK TO s");
  wait_for_parts(1);
  GetParam().run(pair);
  pair.on_master("INSERT INTO small VALUES (1)");
  large.exec(rows(20'000, "c"));
  wait_for_parts(1);
  GetParam().run(pair);
  large.commit();
  pair.on_master("INSERT INTO small VALUES (2)");
  expect_equal();
}

INSTANTIATE_TEST_SUITE_P(
    AtBothEnds, StreamingBroken,
    testing::Values(Break{"sender_killed",
                          [](Pair& pair) {
                            pair.kill_sender();
                            pair.start_sender();
                          }},
                    Break{"receiver_killed",
                          [](Pair& pair) {
                            pair.kill_receiver();
                            pair.start_receiver();
                          }},
                    Break{"receiver_stopped",
                          [](Pair& pair) {
                            pair.stop_receiver();
                            pair.start_receiver();
                          }},
                    Break{"walsender_terminated",
                          [](Pair& pair) {
                            pair.on_master(
                                "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots"
                                " WHERE database = current_database() AND active");
                          }}),
    [](const auto& tested) { return tested.param.name; });

// Each with rows of its own and some that roll back, several at a time.
TEST_F(Streaming, ManyAtOnce) {
  Pair pair;
  start(pair);
  constexpr int kAtOnce = 20;  // more than a connection keeps chains for
  std::vector<std::unique_ptr<pqxx::connection>> connections;
  std::vector<std::unique_ptr<pqxx::work>> open;
  for (int i = 0; i < kAtOnce; ++i) {
    connections.push_back(std::make_unique<pqxx::connection>(pair.master()));
    open.push_back(std::make_unique<pqxx::work>(*connections.back()));
  }
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < kAtOnce; ++i) {
      open[static_cast<std::size_t>(i)]->exec(rows(i * 100'000 + round * 10'000, "a"));
      if (round == 1)
        open[static_cast<std::size_t>(i)]->exec("SAVEPOINT s; " + rows(i * 100'000 + 50'000, "b") +
                                                "; ROLLBACK TO s");
    }
    pair.on_master(fmt::format("INSERT INTO small VALUES ({})", round));
  }
  for (std::size_t i = 0; i < open.size(); ++i) i % 4 == 3 ? open[i]->abort() : open[i]->commit();
  expect_equal();
  EXPECT_EQ(on_standby("SELECT count(*) FROM t"), std::to_string(15 * 3 * kRows));
}

}  // namespace
}  // namespace bitacora::harness
