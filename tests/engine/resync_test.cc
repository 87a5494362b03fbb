// A table of a running pair is copied anew, or for the first time, while the others go on.
#include <gtest/gtest.h>

#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>
#include <pqxx/pqxx>
#include <thread>

#include <fmt/format.h>

#include "tests/engine/refusal.h"
#include "tests/postgres/database.h"
#include "tests/postgres/pair.h"

namespace bitacora::harness {
namespace {

using std::chrono::milliseconds;

class Resync : public testing::Test {
 protected:
  void make(PairOptions options = {}) {
    pair_.emplace(std::move(options));
    pair_->on_both(
        "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE other (id int "
        "PRIMARY KEY, n int)");
    pair_->on_both(
        "INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 1000) i;"
        "INSERT INTO other VALUES (1, 0)");
    pair_->start();
    pair_->on_master("UPDATE other SET n = 1");
    pair_->wait_applied();
  }
  void TearDown() override {
    if (HasFailure() && pair_) std::cout << pair_->story();
  }
  Finished resync(const std::string& table) const {
    return Pair::bitacora({"resync", "--http", pair_->receiver_http(), table});
  }
  // Of t, by a lock on the standby's table, until lock_ is given back.
  void hold_up_a_resync() {
    locker_.emplace(pair_->standby());
    lock_.emplace(*locker_);
    lock_->exec("LOCK TABLE t IN SHARE MODE");
    asking_.emplace(std::vector<std::string>{BITACORA_BINARY, "resync", "--http",
                                             pair_->receiver_http(), "public.t"});
    ASSERT_TRUE(eventually([&] {
      return query_value(pair_->standby(),
                         "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = "
                         "'t'::regclass") != "0";
    }));
  }
  void expect_equal(std::initializer_list<const char*> tables) {
    pair_->wait_applied();
    for (const auto* table : tables) {
      SCOPED_TRACE(table);
      EXPECT_TRUE(pair_->same_content(table));
    }
  }

  std::optional<Pair> pair_;
  std::optional<pqxx::connection> locker_;
  std::optional<pqxx::work> lock_;
  std::optional<Process> asking_;
};

TEST_F(Resync, MendsWhatSomebodyChanged) {
  make();
  pair_->on_standby("DELETE FROM t WHERE id % 2 = 0; INSERT INTO t VALUES (-1, 'mine')");
  std::jthread writer([this](const std::stop_token& stop) {
    for (int i = 2000; !stop.stop_requested(); ++i) {
      pair_->on_master(fmt::format(
          "BEGIN; UPDATE other SET n = n + 1; INSERT INTO t VALUES ({0}, 'new'); UPDATE t SET v = "
          "v || '+' WHERE id IN ({0} - 3, 1 + {0} % 2 * 2); COMMIT",
          i));
    }
  });
  for (int i = 0; i < 5; ++i) {
    const auto done = resync("public.t");
    EXPECT_EQ(done.exit_code, 0) << done.error_output;
    EXPECT_NE(done.output.find("public.t follows the master again"), std::string::npos);
  }
  writer.request_stop();
  writer.join();
  expect_equal({"public.t", "public.other"});
  EXPECT_EQ(query_value(pair_->standby(), "SELECT count(*) FROM bitacora.progress"), "1");
}

// Held up in the middle by a lock on the standby's table.
TEST_F(Resync, TheOthersGoOn) {
  make();
  hold_up_a_resync();
  for (int i = 0; i < 5; ++i) {
    pair_->on_master("UPDATE other SET n = n + 1");
    pair_->on_master("UPDATE t SET v = v || '!' WHERE id < 10");
    pair_->wait_applied();
    EXPECT_TRUE(pair_->same_content("public.other"));
  }
  EXPECT_TRUE(asking_->running());
  lock_.reset();
  EXPECT_EQ(asking_->wait(milliseconds(20000)), 0);
  expect_equal({"public.t", "public.other"});
}

// TRUNCATE refuses a table that another refers to, which keeps its rows until its copy is here.
TEST_F(Resync, WhatTheTableRefersToIsTruncated) {
  make();
  pair_->on_both("ALTER TABLE t ADD o int REFERENCES other");
  hold_up_a_resync();
  pair_->on_master("TRUNCATE other, t; INSERT INTO other VALUES (7, 7)");
  pair_->wait_applied();
  EXPECT_TRUE(pair_->same_content("public.other"));
  lock_.reset();
  EXPECT_EQ(asking_->wait(milliseconds(20000)), 0);
  pair_->on_master("INSERT INTO t VALUES (1, 'v', 7)");
  expect_equal({"public.t", "public.other"});
}

// Left by an earlier life, which somebody ended by hand: neither is ours.
TEST_F(Resync, TrustsNoRowOfAnotherReplay) {
  struct Case {
    const char* name;
    const char* system;
    const char* applied;
  };
  make();
  for (const Case& c : {Case{"behind the spool's beginning", "system_identifier", "'0/1'"},
                        Case{"ahead", "system_identifier", "applied_lsn + 1000000000"},
                        Case{"another master's", "system_identifier + 1", "applied_lsn"}}) {
    SCOPED_TRACE(c.name);
    hold_up_a_resync();
    for (int i = 0; i < 2; ++i) {
      pair_->on_master(
          "UPDATE t SET v = v || '!' WHERE id < 10; INSERT INTO t SELECT max(id) + 1, "
          "'new' FROM t");
      pair_->wait_applied();
      if (i == 1) continue;
      pair_->on_standby(fmt::format(
          "INSERT INTO bitacora.progress (subscription, system_identifier, database, slot, stream,"
          " applied_lsn) SELECT subscription || ' resync', {}, database, slot, stream, {} FROM"
          " bitacora.progress",
          c.system, c.applied));
    }
    lock_.reset();
    EXPECT_EQ(asking_->wait(milliseconds(20000)), 0) << asking_->error_output();
    expect_equal({"public.t", "public.other"});
    EXPECT_EQ(query_value(pair_->standby(), "SELECT count(*) FROM bitacora.progress"), "1");
  }
}

TEST_F(Resync, ATableThatWasDroppedAndMadeAnew) {
  make();
  pair_->on_master("DROP TABLE t");
  pair_->on_master("CREATE TABLE t (id int PRIMARY KEY, v text, more int)");
  pair_->on_standby("ALTER TABLE t ADD more int");
  const auto done = resync("public.t");
  EXPECT_EQ(done.exit_code, 0) << done.error_output;
  pair_->on_master("INSERT INTO t VALUES (1, 'again', 2)");
  expect_equal({"public.t"});
}

TEST_F(Resync, OfAReceiverThatStopped) {
  make();
  pair_->on_standby("DELETE FROM t WHERE id = 5");
  pair_->on_master("UPDATE t SET v = 'new' WHERE id = 5");
  EXPECT_EQ(pair_->receiver().wait(milliseconds(20000)), 5) << "a row is missing";
  const std::vector<std::string> command = {"resync", "--standby",   pair_->standby(),
                                            "--name", pair_->name(), "public.t"};
  const auto noted = Pair::bitacora(command);
  EXPECT_EQ(noted.exit_code, 0) << noted.error_output;
  pair_->start_receiver();
  pair_->on_master("UPDATE other SET n = 7; UPDATE t SET v = 'newer' WHERE id = 6");
  EXPECT_TRUE(eventually([&] {
    return query_value(pair_->standby(),
                       "SELECT count(*) FROM bitacora.copied_tables WHERE copied "
                       "AND hold_lsn = '0/0'") == "1";
  }));
  expect_equal({"public.t", "public.other"});
  expect_refused(Pair::bitacora(command), 3, {"is running", "--http"});
}

TEST_F(Resync, ATableThatCameToThePublication) {
  PairOptions options;
  options.sender_arguments = {"--tables", "t,other"};
  make(options);
  const std::string added = "CREATE TABLE added (id int PRIMARY KEY, v text)";
  pair_->on_both(added);
  pair_->on_master("INSERT INTO added SELECT i, 'a' FROM generate_series(1, 100) i");
  pair_->stop_sender();
  Process sender(sender_command(*pair_, {{"--tables", "t,other,added"}}));
  EXPECT_TRUE(eventually([&] {
    return query_value(pair_->master(),
                       "SELECT count(*) FROM pg_publication_tables WHERE tablename = 'added'") ==
           "1";
  }));
  EXPECT_TRUE(eventually([&] { return resync("public.added").exit_code == 0; }))
      << sender.error_output();
  pair_->on_master("DELETE FROM added WHERE id = 5");
  pair_->wait_applied();
  EXPECT_TRUE(pair_->same_content("public.added"));
  // And goes again: what happens to it then does not concern the pair.
  pair_->on_master("ALTER PUBLICATION bitacora_" + pair_->name() + " DROP TABLE added");
  pair_->on_master("DELETE FROM added WHERE id = 6; UPDATE other SET n = 8");
  pair_->wait_applied();
  EXPECT_TRUE(pair_->same_content("public.other"));
  EXPECT_FALSE(pair_->same_content("public.added"));
}

// Applied by the others and of no more use to them; some segments of it, and none is kept for long.
TEST_F(Resync, TheSpoolKeepsWhatTheTableMissed) {
  PairOptions options;
  options.receiver_arguments = {"--spool-keep-time", "0s", "--spool-keep-size", "0"};
  make(options);
  pair_->on_both("CREATE TABLE bulk (v text)");
  hold_up_a_resync();
  pair_->on_master("UPDATE t SET v = 'missed' WHERE id = 9");
  for (int i = 0; i < 12; ++i) {
    pair_->on_master(
        "INSERT INTO bulk SELECT (SELECT string_agg(md5((random() + i + g)::text), '') FROM "
        "generate_series(1, 32) AS g) FROM generate_series(1, 8000) AS i");
    pair_->wait_applied();
  }
  std::this_thread::sleep_for(milliseconds(2500));  // the keeper looks every second
  lock_.reset();
  EXPECT_EQ(asking_->wait(milliseconds(20000)), 0) << asking_->error_output();
  expect_equal({"public.t"});
  EXPECT_EQ(pair_->story().find("event=copy_begins_anew"), std::string::npos);
}

// What the spool was to keep is gone with the data directory.
TEST_F(Resync, BeginsAnewWithoutItsSpool) {
  make();
  hold_up_a_resync();
  pair_->on_master("UPDATE other SET n = n + 1; UPDATE t SET v = 'moved' WHERE id = 9");
  pair_->wait_applied();
  // The slot must not be further than the progress row: that would be a gap.
  pair_->stop_sender();
  ASSERT_TRUE(eventually([&] {
    const auto status = nlohmann::json::parse(
        Pair::bitacora({"status", "--http", pair_->receiver_http(), "--json"}).output);
    return status["flushed_lsn"] == status["applied_lsn"];
  }));
  pair_->kill_receiver();
  lock_.reset();
  std::filesystem::remove_all(pair_->data_dir());
  pair_->on_master("UPDATE t SET v = 'moved on' WHERE id = 9");
  pair_->start_sender();
  pair_->start_receiver();
  EXPECT_TRUE(eventually([&] {
    return query_value(pair_->standby(),
                       "SELECT count(*) FROM bitacora.copied_tables WHERE copied "
                       "AND hold_lsn = '0/0'") == "1";
  }));
  expect_equal({"public.t", "public.other"});
}

TEST_F(Resync, IsRefused) {
  make();
  expect_refused(resync("public.nowhere"), 2, {"public.nowhere", "pg_publication_tables"});
  expect_refused(resync("nowhere"), 1, {"schema.table"});
  pair_->on_master("CREATE TABLE extra (id int PRIMARY KEY)");
  expect_refused(resync("public.extra"), 5, {"public.extra"});
  pair_->on_master("UPDATE other SET n = 3");
  expect_equal({"public.t", "public.other"});
}

TEST_F(Resync, MakesTheTableWithCreateSchema) {
  PairOptions options;
  options.receiver_arguments = {"--create-schema"};
  options.copy = true;
  pair_.emplace(options);
  pair_->on_master("CREATE TABLE other (id int PRIMARY KEY, n int)");
  pair_->start();
  pair_->wait_applied();
  // Without a row it would not be noticed otherwise.
  pair_->on_master("CREATE TABLE late (id serial PRIMARY KEY, v text UNIQUE)");
  const auto done = resync("public.late");
  EXPECT_EQ(done.exit_code, 0) << done.error_output;
  pair_->on_master("INSERT INTO late (v) VALUES ('b')");
  expect_equal({"public.late", "public.other"});
  EXPECT_EQ(
      query_value(pair_->standby(), "SELECT count(*) FROM pg_indexes WHERE tablename = 'late'"),
      "2");
}

// Without a word: it was published from its beginning, or came to the publication meanwhile.
TEST_F(Resync, ANewTableComesByItself) {
  PairOptions options;
  options.receiver_arguments = {"--create-schema"};
  options.copy = true;
  pair_.emplace(options);
  pair_->on_master("CREATE TABLE other (id int PRIMARY KEY, n int)");
  pair_->start();
  pair_->wait_applied();
  for (const std::string name : {"one", "two"}) {
    pair_->on_master("CREATE TABLE " + name + " (id serial PRIMARY KEY, v text UNIQUE)");
    pair_->on_master("INSERT INTO " + name + " (v) VALUES ('a'); INSERT INTO other VALUES (" +
                     (name == "one" ? "1" : "2") + ", 0)");
    EXPECT_TRUE(eventually([&] {
      return query_value(pair_->standby(), "SELECT to_regclass('" + name + "') IS NOT NULL") ==
                 "t" &&
             pair_->same_content("public." + name);
    }));
  }
  pair_->stop_receiver();
  pair_->on_master("CREATE TABLE three (id int PRIMARY KEY); INSERT INTO three VALUES (1)");
  pair_->start_receiver();
  pair_->on_master("INSERT INTO three VALUES (2)");
  expect_equal({"public.one", "public.two", "public.other"});
  EXPECT_TRUE(eventually([&] {
    return query_value(pair_->standby(), "SELECT to_regclass('three') IS NOT NULL") == "t" &&
           pair_->same_content("public.three");
  }));
}

class Sequences : public Resync {};

TEST_F(Sequences, AreWhereTheMastersWere) {
  PairOptions options;
  options.receiver_arguments = {"--sequences-interval", "0"};
  make(options);
  const std::string made =
      "CREATE SEQUENCE plain; CREATE SEQUENCE down INCREMENT -1; CREATE "
      "SEQUENCE \"odd \"\"name\"; CREATE SEQUENCE never";
  pair_->on_both(made);
  pair_->on_master(
      "SELECT setval('plain', 9000000000), setval('down', -5), setval('\"odd \"\"name\"', 3, "
      "false)");
  pair_->on_standby("SELECT setval('plain', 17), nextval('never')");
  const auto done = Pair::bitacora({"sequences", "--now", "--http", pair_->receiver_http()});
  EXPECT_EQ(done.exit_code, 0) << done.error_output;
  for (const char* name : {"plain", "down", "\"odd \"\"name\"", "never"}) {
    SCOPED_TRACE(name);
    const auto sql = fmt::format("SELECT last_value || ' ' || is_called FROM {}", name);
    EXPECT_EQ(query_value(pair_->standby(), sql), query_value(pair_->master(), sql));
  }
}

// A receiver that takes one table has its sequence, and no other's.
TEST_F(Sequences, GoWithTheirTables) {
  PairOptions options;
  options.receiver_arguments = {"--sequences-interval", "0", "--tables", "mine"};
  pair_.emplace(options);
  pair_->on_both(
      "CREATE TABLE mine (id serial PRIMARY KEY); CREATE TABLE theirs (id serial "
      "PRIMARY KEY)");
  pair_->start();
  pair_->on_master(
      "INSERT INTO mine DEFAULT VALUES; INSERT INTO theirs DEFAULT VALUES;"
      "SELECT setval('mine_id_seq', 50), setval('theirs_id_seq', 50)");
  pair_->wait_applied();
  const auto done = Pair::bitacora({"sequences", "--now", "--http", pair_->receiver_http()});
  EXPECT_EQ(done.exit_code, 0) << done.error_output;
  EXPECT_EQ(query_value(pair_->standby(), "SELECT last_value FROM mine_id_seq"), "50");
  EXPECT_EQ(query_value(pair_->standby(), "SELECT last_value FROM theirs_id_seq"), "1");
}

TEST_F(Sequences, AreLookedAtFromTimeToTime) {
  PairOptions options;
  options.receiver_arguments = {"--sequences-interval", "1s"};
  make(options);
  pair_->on_both("CREATE SEQUENCE plain");
  for (const char* value : {"100", "200"}) {
    pair_->on_master(fmt::format("SELECT setval('plain', {})", value));
    EXPECT_TRUE(eventually(
        [&] { return query_value(pair_->standby(), "SELECT last_value FROM plain") == value; }));
  }
}

}  // namespace
}  // namespace bitacora::harness
