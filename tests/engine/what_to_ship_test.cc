// What the sender's file says is shipped: shown as a plan, and changed while the pair runs.
#include <gtest/gtest.h>
#include <signal.h>

#include <fstream>
#include <iostream>
#include <optional>
#include <pqxx/pqxx>
#include <thread>

#include <fmt/format.h>

#include "tests/engine/refusal.h"
#include "tests/postgres/database.h"
#include "tests/postgres/pair.h"

namespace bitacora::harness {
namespace {

class WhatToShip : public testing::Test {
 protected:
  explicit WhatToShip() : file_(testing::TempDir() + case_name() + ".toml") {}
  ~WhatToShip() override { std::remove(file_.c_str()); }
  void TearDown() override {
    if (HasFailure() && pair_) std::cout << pair_->story();
  }

  void make(const std::string& tables, PairOptions options = {}) {
    options.sender_arguments = {"--config", file_};
    pair_.emplace(std::move(options));
    pair_->on_master(tables);
  }
  void say(const std::string& toml) const { std::ofstream(file_) << toml; }
  std::string published() const {
    return query_value(pair_->master(),
                       "SELECT string_agg(to_jsonb(p)::text, ' ' ORDER BY tablename) FROM "
                       "pg_publication_tables p");
  }
  // SIGHUP, and the event that follows.
  void reload(const std::string& event) {
    const int before = pair_->said(event);
    send_signal(pair_->sender(), SIGHUP);
    EXPECT_TRUE(eventually([&] { return pair_->said(event) > before; }, std::chrono::seconds(60)))
        << event;
  }
  Finished plan() const {
    return Pair::bitacora({"sender", "--plan", "--master", pair_->master(), "--stream",
                           pair_->name(), "--config", file_});
  }
  void expect_equal(const std::string& table, const std::string& on_master) const {
    const auto expected = table_content(pair_->master(), on_master);
    EXPECT_FALSE(expected.empty());
    EXPECT_EQ(expected, table_content(pair_->standby(), table)) << table;
  }

  const std::string file_;
  std::optional<Pair> pair_;
};

constexpr const char* kTables =
    "CREATE TABLE orders (id int, region text, total int, PRIMARY KEY (id, region));"
    "CREATE TABLE items (id int PRIMARY KEY, name text, secret text);"
    "CREATE TABLE log (id int PRIMARY KEY)";

TEST_F(WhatToShip, APlanSaysWhatWouldChangeAndChangesNothing) {
  make(kTables);
  pair_->on_standby(kTables);
  say("tables = [\"orders\", \"log\"]\n");
  const auto first = plan();
  EXPECT_EQ(first.exit_code, 0) << first.error_output;
  EXPECT_NE(first.output.find("which does not exist yet"), std::string::npos) << first.output;
  EXPECT_EQ(left_on_master(*pair_), "");
  pair_->start();
  pair_->wait_applied();
  EXPECT_EQ(plan().output, fmt::format("publication bitacora_{}: no changes\n", pair_->name()));

  say("tables = [\"orders\", \"items\"]\noperations = [\"insert\", \"update\"]\n"
      "[table.\"public.orders\"]\nwhere = \"region = 'eu'\"\n"
      "[table.items]\ncolumns = [\"id\", \"name\"]\n");
  const auto before = published();
  const auto changes = plan();
  EXPECT_EQ(changes.exit_code, 0) << changes.error_output;
  const auto quoted = "\"bitacora_" + pair_->name() + "\"";
  EXPECT_EQ(changes.output, fmt::format(
                                R"(publication bitacora_{0}:
  + table public.items (id, name)
  - table public.log
  ~ table public.orders: where true -> (region = 'eu'::text)
  ~ publish: insert, update, delete, truncate -> insert, update
statements:
  BEGIN;
  LOCK TABLE "public"."items", "public"."orders" IN SHARE ROW EXCLUSIVE MODE;
  ALTER PUBLICATION {1} DROP TABLE "public"."log", "public"."orders";
  ALTER PUBLICATION {1} ADD TABLE "public"."items" (id, name), "public"."orders" WHERE (region = 'eu'::text);
  ALTER PUBLICATION {1} SET (publish = 'insert, update');
  COMMIT;
then, at each receiver, for the rows that it lacks:
  bitacora resync public.items  # new in the publication
  bitacora resync public.orders  # the rows that the filter leaves out stay there
)",
                                pair_->name(), quoted));
  EXPECT_EQ(published(), before);
  say("[table.\"public.orders\"]\nwhere = \"totl > 1\"\n");
  expect_refused(plan(), 2, {"public.orders", "column \"totl\" does not exist"});
}

// Several sessions write all the while, to tables that stay, come, go and change.
TEST_F(WhatToShip, AReloadUnderLoadLosesNothing) {
  PairOptions options;
  options.copy = true;
  options.receiver_arguments = {"--create-schema"};
  make(
      "CREATE TABLE stays (id bigserial PRIMARY KEY, n int); CREATE TABLE comes (LIKE stays "
      "INCLUDING ALL); CREATE TABLE goes (LIKE stays INCLUDING ALL);"
      "CREATE TABLE part (id bigserial, n int, PRIMARY KEY (id, n))",
      options);
  say("tables = [\"stays\", \"goes\", \"part\"]\n[table.part]\nwhere = \"n < 3\"\n");
  pair_->start();
  pair_->wait_applied();
  std::vector<std::jthread> writers;
  for (int session = 0; session < 4; ++session) {
    writers.emplace_back([this, session](const std::stop_token& stop) {
      pqxx::connection connection(pair_->master());
      for (int i = session; !stop.stop_requested(); ++i) {
        pqxx::work tx(connection);
        tx.exec(
            fmt::format("INSERT INTO stays (n) VALUES ({0}); INSERT INTO comes (n) VALUES ({0});"
                        "INSERT INTO goes (n) VALUES ({0}); INSERT INTO part (n) VALUES ({0} % 7);"
                        "UPDATE stays SET n = n + 1 WHERE id = {0};"
                        "UPDATE comes SET n = n + 1 WHERE id = {0}",
                        i));
        tx.commit();
      }
    });
  }
  say("tables = [\"stays\", \"comes\", \"part\"]\n[table.part]\nwhere = \"n < 5\"\n");
  reload("event=reloaded");
  EXPECT_EQ(pair_->said("event=publication_changed"), 1);
  for (int i = 0; i < 5; ++i) reload("event=reloaded");
  EXPECT_EQ(pair_->said("event=publication_changed"), 1) << "nothing is left to change";
  pair_->wait_applied(std::chrono::seconds(60));
  const auto resync = [&] {
    return Pair::bitacora({"resync", "--http", pair_->receiver_http(), "public.part"});
  };
  // Not while public.comes is copied.
  EXPECT_TRUE(eventually([&] { return resync().exit_code == 0; }, std::chrono::seconds(60)));
  for (auto& writer : writers) writer.request_stop();
  writers.clear();
  pair_->wait_applied(std::chrono::seconds(60));
  EXPECT_TRUE(eventually([&] {
    pair_->wait_applied();
    return query_value(pair_->standby(),
                       "SELECT count(*) FROM bitacora.copied_tables WHERE NOT copied") == "0";
  }));
  pair_->wait_applied();
  expect_equal("public.stays", "public.stays");
  expect_equal("public.comes", "public.comes");
  expect_equal("public.part", "(SELECT * FROM public.part WHERE n < 5)");
  EXPECT_NE(query_value(pair_->standby(), "SELECT count(*) FROM goes"),
            query_value(pair_->master(), "SELECT count(*) FROM goes"))
      << "it left while rows were written";
}

// Between the change and the reader's next look at what it asks for.
TEST_F(WhatToShip, ATableThatCannotBeSentInBinaryJoins) {
  PairOptions options;
  options.receiver_arguments = {"--tables", "log"};
  make(kTables, options);
  pair_->on_standby(kTables);
  pair_->on_master("CREATE TABLE typed (id int PRIMARY KEY, a aclitem[])");
  say("tables = [\"log\"]\n");
  pair_->start();
  pair_->wait_applied();
  // As an administrator would, without a word to the sender: it reads on in binary.
  pair_->on_master("ALTER PUBLICATION bitacora_" + pair_->name() + " ADD TABLE typed");
  pair_->on_master("INSERT INTO log VALUES (1)");
  pair_->on_master("INSERT INTO typed VALUES (1, ARRAY['=r/postgres'::aclitem])");
  EXPECT_TRUE(eventually([&] { return pair_->said("event=master_lost") > 0; }));
  pair_->on_master("INSERT INTO log VALUES (2)");
  pair_->wait_applied();
  expect_equal("public.log", "public.log");
}

TEST_F(WhatToShip, ABadFileChangesNothing) {
  make(kTables);
  pair_->on_standby(kTables);
  say("tables = [\"orders\"]\n");
  pair_->start();
  pair_->wait_applied();
  const auto before = published();
  for (const char* text :
       {"tables = [\"orders\"\n", "tabels = \"orders\"\n", "tables = \"nowhere\"\n",
        "tables = \"*\"\n[table.orders]\nwhere = \"nope = 1\"\n",
        "tables = \"*\"\n[table.orders]\nwhere = \"total > 1\"\n",
        "tables = [\"orders\", \"log\", \"lgo\"]\nstrict = true\n"}) {
    SCOPED_TRACE(text);
    say(text);
    reload("event=reload_failed reason=");
    EXPECT_EQ(published(), before);
  }
  std::remove(file_.c_str());
  reload("event=reload_failed reason=");
  pair_->on_master("INSERT INTO orders VALUES (1, 'eu', 2)");
  pair_->wait_applied();
  expect_equal("public.orders", "public.orders");

  say("tables = [\"orders\", \"log\", \"lgo\"]\nlisten = \"127.0.0.1:1\"\nstream = \"other\"\n");
  reload("event=reloaded");
  EXPECT_EQ(pair_->said("event=pattern_matches_nothing pattern=\"lgo\""), 1);
  EXPECT_EQ(pair_->said("event=restart_needed"), 0) << "flags win over the file";
  say("tables = [\"orders\", \"log\"]\npg_bin_dir = \"/nowhere\"\nverbose = true\n");
  reload("event=reloaded");
  EXPECT_EQ(pair_->said("event=restart_needed options=\"pg-bin-dir, verbose\""), 1);
  pair_->on_master("INSERT INTO log VALUES (1)");
  pair_->on_master("UPDATE orders SET total = 3");
  pair_->wait_applied();
  expect_equal("public.log", "public.log");
  expect_equal("public.orders", "public.orders");
}

// While the sender waits for a lock, its plan grows old.
TEST_F(WhatToShip, OthersChangeThePublicationMeanwhile) {
  make(kTables);
  pair_->on_standby(kTables);
  say("tables = [\"orders\", \"log\"]\n");
  pair_->start();
  pair_->wait_applied();
  const auto reload_while = [&](const std::string& others) {
    pqxx::connection connection(pair_->master());
    pqxx::work holder(connection);
    holder.exec("LOCK TABLE items IN ROW EXCLUSIVE MODE");
    const int waits = pair_->said("event=waiting_for_lock");
    const int reloads = pair_->said("event=reloaded");
    send_signal(pair_->sender(), SIGHUP);
    EXPECT_TRUE(eventually([&] { return pair_->said("event=waiting_for_lock") > waits; }));
    pair_->on_master(fmt::format("ALTER PUBLICATION bitacora_{} {}", pair_->name(), others));
    holder.commit();
    EXPECT_TRUE(eventually([&] { return pair_->said("event=reloaded") > reloads; }));
  };
  say("tables = [\"orders\", \"items\", \"log\"]\n");
  reload_while("DROP TABLE log");
  pair_->on_master("INSERT INTO log VALUES (1); INSERT INTO items VALUES (1, 'a', 'b')");
  pair_->wait_applied();
  expect_equal("public.log", "public.log");
  expect_equal("public.items", "public.items");

  say("tables = [\"orders\", \"log\"]\n");
  reload("event=reloaded");
  say("tables = [\"orders\", \"items\", \"log\"]\n");
  reload_while("ADD TABLE items");
  pair_->on_master("INSERT INTO items VALUES (2, 'a', 'b')");
  pair_->wait_applied();
  expect_equal("public.items", "public.items");
  EXPECT_EQ(pair_->said("event=reload_failed"), 0);
}

TEST_F(WhatToShip, AHangUpIsHarmlessWhenever) {
  say("");
  make(kTables);
  pair_->on_standby(kTables);
  {
    pqxx::connection predecessor(pair_->master());  // whose end the sender waits for
    pqxx::nontransaction tx(predecessor);
    tx.exec_params("SELECT pg_advisory_lock(hashtext('bitacora sender'), hashtext($1))",
                   "bitacora_" + pair_->name());
    pair_->start_sender();
    EXPECT_TRUE(eventually([&] {
      return query_value(pair_->master(),
                         "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'bitacora "
                         "sender' AND datname = current_database()") == "1";
    }));
    for (int i = 0; i < 20; ++i) send_signal(pair_->sender(), SIGHUP);
  }
  pair_->wait_for_slot();
  pair_->start_receiver();
  EXPECT_TRUE(eventually([&] { return pair_->said("event=reloaded") >= 1; }));
  for (int i = 0; i < 20; ++i) send_signal(pair_->sender(), SIGHUP);
  pair_->on_master("INSERT INTO log VALUES (1)");
  pair_->wait_applied();
  EXPECT_EQ(pair_->stop_sender(), 0);

  Process without_file(sender_command(*pair_));
  EXPECT_TRUE(eventually(
      [&] { return without_file.error_output().find("event=sender_ready") != std::string::npos; }));
  send_signal(without_file, SIGHUP);
  EXPECT_TRUE(eventually([&] {
    return without_file.error_output().find("event=reload_ignored") != std::string::npos;
  }));
  pair_->on_master("INSERT INTO log VALUES (2)");
  send_signal(without_file, SIGTERM);
  EXPECT_EQ(without_file.wait(std::chrono::seconds(20)), 0);
}

// An UPDATE that crosses the filter arrives as an INSERT or a DELETE. The large column is not
// touched by it, so that the INSERT has its value only from the old row: REPLICA IDENTITY FULL.
TEST_F(WhatToShip, RowsThatCrossTheFilterWithUnchangedToast) {
  PairOptions options;
  options.receiver_arguments = {"--workers", "2"};
  make("", options);
  const char* tables =
      "CREATE TABLE t (id int PRIMARY KEY, kind int NOT NULL, n int, big text);"
      "ALTER TABLE t ALTER big SET STORAGE EXTERNAL; ALTER TABLE t REPLICA IDENTITY FULL";
  pair_->on_both(tables);
  say("tables = \"t\"\n[table.t]\nwhere = \"kind % 2 = 0\"\n");
  pair_->start();
  pair_->on_master(
      "INSERT INTO t SELECT i, i % 4, 0, repeat(md5(i::text), 200) FROM generate_series(1, 300) i");
  pair_->wait_applied();
  for (int round = 0; round < 12; ++round) {
    pair_->on_master(fmt::format(
        "BEGIN; UPDATE t SET kind = kind + 1 WHERE id % 5 = {0} % 5; UPDATE t SET n = n + 1 WHERE "
        "id "
        "% 3 = {0} % 3; COMMIT; UPDATE t SET kind = kind + 1, n = n - 1 WHERE id % 7 = {0} % 7;"
        "UPDATE t SET big = repeat(md5((id + {0})::text), 180) WHERE id = {0};"
        "DELETE FROM t WHERE id = 300 - {0}",
        round));
    if (round % 3 == 0) pair_->wait_applied();
  }
  pair_->wait_applied();
  EXPECT_NE(query_value(pair_->standby(), "SELECT count(*) FROM t"), "0");
  expect_equal("public.t", "(SELECT * FROM public.t WHERE kind % 2 = 0)");
}

// By a key alone PostgreSQL leaves the large value out of that INSERT: better none than half a row.
TEST_F(WhatToShip, HalfARowStopsTheReceiver) {
  make("");
  const char* tables =
      "CREATE TABLE t (id int, kind int, big text, PRIMARY KEY (id, kind));"
      "ALTER TABLE t ALTER big SET STORAGE EXTERNAL";
  pair_->on_both(tables);
  say("tables = \"t\"\n[table.t]\nwhere = \"kind = 1\"\n");
  pair_->start();
  EXPECT_EQ(pair_->said("event=filter_without_full_identity tables=\"public.t\""), 1);
  pair_->on_master("INSERT INTO t VALUES (1, 0, repeat('x', 10000)), (2, 1, repeat('y', 10000))");
  pair_->wait_applied();
  pair_->on_master("UPDATE t SET kind = 0 WHERE id = 2");
  pair_->wait_applied();
  EXPECT_EQ(query_value(pair_->standby(), "SELECT count(*) FROM t"), "0");
  pair_->on_master("UPDATE t SET kind = 1 WHERE id = 1");
  expect_ends_refused(pair_->receiver(), 4, {"public.t", "big", "REPLICA IDENTITY FULL"});
  EXPECT_EQ(query_value(pair_->standby(), "SELECT count(*) FROM t"), "0");
}

}  // namespace
}  // namespace bitacora::harness
