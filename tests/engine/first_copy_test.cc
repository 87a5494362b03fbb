// A receiver on an empty standby brings it up by itself: schema, rows, what was written meanwhile.
#include <gtest/gtest.h>

#include <filesystem>
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

PairOptions copying(std::vector<std::string> receiver_arguments = {},
                    std::vector<std::string> sender_arguments = {}) {
  PairOptions options;
  options.copy = true;
  options.receiver_arguments = std::move(receiver_arguments);
  options.sender_arguments = std::move(sender_arguments);
  return options;
}

constexpr const char* kShop =
    "CREATE SCHEMA shop; CREATE TYPE shop.mood AS ENUM ('good', 'bad');"
    "CREATE FUNCTION shop.double(i int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT i * 2; -- ;';"
    "CREATE TABLE shop.customer (id bigserial PRIMARY KEY, name text NOT NULL, mood shop.mood,"
    " twice int GENERATED ALWAYS AS (shop.double(3)) STORED);"
    "CREATE TABLE shop.purchase (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
    " customer bigint REFERENCES shop.customer, at timestamptz DEFAULT now(), total numeric);"
    "CREATE INDEX purchase_at ON shop.purchase (at) WHERE total > 10;"
    "CREATE VIEW shop.totals AS SELECT customer, sum(total) FROM shop.purchase GROUP BY 1;"
    "CREATE SEQUENCE shop.ticket; SELECT setval('shop.ticket', 4711);"
    "INSERT INTO shop.customer (name, mood) SELECT 'c' || i, 'good' FROM generate_series(1, 500) i;"
    "INSERT INTO shop.purchase (customer, total) SELECT 1 + i % 500, i FROM generate_series(1, "
    "5000) i";

// Every index and constraint, as the catalogue spells them.
std::string shape(const std::string& conninfo) {
  return query_value(
      conninfo,
      "SELECT string_agg(line, E'\\n' ORDER BY line) FROM (SELECT indexdef AS line FROM pg_indexes "
      "WHERE schemaname NOT IN ('pg_catalog', 'bitacora') UNION ALL SELECT conrelid::regclass || "
      "' ' || pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace::regnamespace::text "
      "NOT IN ('pg_catalog', 'information_schema', 'bitacora') UNION ALL SELECT viewname || "
      "definition FROM pg_views WHERE schemaname NOT IN ('pg_catalog', 'information_schema')) "
      "all_of");
}

TEST(FirstCopy, BringsAnEmptyStandbyUp) {
  Pair pair(copying({"--create-schema"}));
  pair.on_master(kShop);
  pair.start();
  pair.on_master("UPDATE shop.customer SET name = name || '!' WHERE id % 2 = 0");
  pair.wait_applied();
  EXPECT_TRUE(pair.same_content("shop.customer"));
  EXPECT_TRUE(pair.same_content("shop.purchase"));
  EXPECT_EQ(query_value(pair.standby(), "SELECT count(*) FROM shop.purchase"), "5000");
  EXPECT_EQ(shape(pair.standby()), shape(pair.master()));
  EXPECT_EQ(query_value(pair.standby(),
                        "SELECT reltuples FROM pg_class WHERE oid = 'shop.purchase'::regclass"),
            "5000")
      << "it was analyzed";
  EXPECT_TRUE(eventually([&] {
    return query_value(pair.standby(), "SELECT last_value FROM shop.ticket") == "4711" &&
           query_value(pair.standby(), "SELECT last_value FROM shop.customer_id_seq") == "500" &&
           query_value(pair.standby(), "SELECT last_value FROM shop.purchase_id_seq") == "5000";
  })) << pair.story();
  EXPECT_EQ(query_value(pair.master(), "SELECT count(*) FROM pg_replication_slots WHERE temporary"),
            "0");
  // As somebody would begin to work on it.
  pair.stop();
  pair.on_standby("INSERT INTO shop.purchase (customer, total) VALUES (1, 1)");
  EXPECT_THROW(pair.on_standby("INSERT INTO shop.purchase (customer, total) VALUES (0, 1)"),
               pqxx::sql_error);
}

TEST(FirstCopy, GoesOnFromItsProgressAfterARestart) {
  Pair pair(copying({"--create-schema"}));
  pair.on_master(kShop);
  pair.start();
  pair.wait_applied();
  pair.stop();
  pair.on_master("DELETE FROM shop.purchase WHERE id % 3 = 0");
  pair.start();
  pair.wait_applied();
  EXPECT_TRUE(pair.same_content("shop.purchase"));
  EXPECT_EQ(pair.story().find("event=copying ", pair.story().find("event=copied ")),
            std::string::npos)
      << "it was copied again: " << pair.story();
}

TEST(FirstCopy, FillsTablesThatAreThere) {
  Pair pair(copying());
  pair.on_both("CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE e (id int)");
  pair.on_master("INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 1000) i");
  pair.start();
  pair.wait_applied();
  EXPECT_TRUE(pair.same_content("public.t"));
  EXPECT_TRUE(pair.same_content("public.e"));
}

TEST(FirstCopy, ShapesOfTables) {
  std::string wide = "CREATE TABLE wide (";
  for (int i = 0; i < 1600; ++i) wide += fmt::format("{}c{} int", i > 0 ? ", " : "", i);
  wide += ")";
  struct Case {
    std::string table;
    std::string made;
    std::string rows;
  };
  const std::vector<Case> cases = {
      {"keyless", "CREATE TABLE keyless (a int, b text)",
       "INSERT INTO keyless SELECT i % 3, 'x' FROM generate_series(1, 100) i"},
      {"bare", "CREATE TABLE bare ()", "INSERT INTO bare DEFAULT VALUES; INSERT INTO bare SELECT"},
      {"empty", "CREATE TABLE empty (id int PRIMARY KEY)", ""},
      {"wide", wide, "INSERT INTO wide (c0, c799, c1599) VALUES (1, 2, 3), (4, 5, 6)"},
      {"always",
       "CREATE TABLE always (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v int,"
       " g int GENERATED ALWAYS AS (v * 2) STORED)",
       "INSERT INTO always (v) SELECT i FROM generate_series(1, 50) i"},
      {"dropped",
       "CREATE TABLE dropped (gone int, id int PRIMARY KEY, also_gone text, v text);"
       " ALTER TABLE dropped DROP gone; ALTER TABLE dropped DROP also_gone",
       "INSERT INTO dropped VALUES (1, 'a'), (2, NULL)"},
      {"toasted", "CREATE TABLE toasted (id int PRIMARY KEY, v text, b bytea)",
       "INSERT INTO toasted SELECT i, repeat(md5(i::text), 3000), decode(repeat(md5(i::text), 900),"
       " 'hex') FROM generate_series(1, 20) i"},
      {"kinds",
       "CREATE TYPE pair AS (a int, b text); CREATE DOMAIN small AS int CHECK (VALUE < 100);"
       " CREATE TABLE kinds (id int PRIMARY KEY, p pair, ps pair[], s small, v int2vector,"
       " a aclitem[], q tsquery, r int4range, j jsonb, n numeric, f float8)",
       "INSERT INTO kinds VALUES (1, (1, 'x'), ARRAY[(2, 'y')::pair, NULL], 5, '1 2 3',"
       " ARRAY['=r/postgres'::aclitem], 'a & b', '[1,5)', '{\"a\": [1, null]}', 'NaN', '-0'),"
       " (2, NULL, '{}', NULL, '', '{}', '', 'empty', 'null', 'Infinity', 'Infinity')"},
      {"\"odd \"\"name; --\"",
       "CREATE TABLE \"odd \"\"name; --\" (\"a\"\"b\" int PRIMARY KEY, \"select\" text)",
       "INSERT INTO \"odd \"\"name; --\" VALUES (1, 'tab\there \\. \\N'), (2, E'line\\nbreak')"},
      {"leafy",
       "CREATE TABLE leafy (id int, k int, v text, PRIMARY KEY (id, k)) PARTITION BY HASH (k);"
       " CREATE TABLE leafy_0 PARTITION OF leafy FOR VALUES WITH (MODULUS 2, REMAINDER 0);"
       " CREATE TABLE leafy_1 PARTITION OF leafy FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
       "INSERT INTO leafy SELECT i, i, 'p' FROM generate_series(1, 300) i"},
      {"parent",
       "CREATE TABLE parent (id int PRIMARY KEY, v text);"
       " CREATE TABLE child (extra int) INHERITS (parent)",
       "INSERT INTO parent SELECT i, 'p' FROM generate_series(1, 20) i;"
       " INSERT INTO child SELECT i, 'c', i FROM generate_series(21, 40) i"},
  };
  for (const bool makes_schema : {false, true}) {
    SCOPED_TRACE(makes_schema ? "with --create-schema" : "into tables that are there");
    auto options = copying({"--split-tables-larger-than", "1MB"});
    options.name = case_name() + (makes_schema ? "_made" : "_there");
    if (makes_schema) options.receiver_arguments.emplace_back("--create-schema");
    Pair pair(options);
    for (const Case& c : cases) {
      pair.on_master(c.made);
      if (!makes_schema) pair.on_standby(c.made);
      if (!c.rows.empty()) pair.on_master(c.rows);
    }
    pair.start();
    pair.wait_applied();
    for (const Case& c : cases) {
      SCOPED_TRACE(c.table);
      EXPECT_TRUE(pair.same_content("public." + c.table));
    }
    EXPECT_TRUE(pair.same_content("public.child"));
    EXPECT_EQ(query_value(pair.standby(), "SELECT count(*) FROM bare"), "2");
  }
}

TEST(FirstCopy, PartitionsUnderTheirRoot) {
  Pair pair(copying({}, {"--publish-via-partition-root"}));
  pair.on_master(
      "CREATE TABLE t (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);"
      "CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (100);"
      "CREATE TABLE t2 (v text, id int NOT NULL); ALTER TABLE t ATTACH PARTITION t2 FOR VALUES "
      "FROM "
      "(100) TO (1000); INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 500) i");
  pair.on_standby("CREATE TABLE t (id int PRIMARY KEY, v text)");
  pair.start();
  pair.on_master("UPDATE t SET v = 'new' WHERE id BETWEEN 95 AND 105");
  pair.wait_applied();
  EXPECT_TRUE(pair.same_content("public.t"));
}

TEST(FirstCopy, RowFiltersAndColumnListsHold) {
  Pair pair(copying());
  const std::string table = "CREATE TABLE t (id int PRIMARY KEY, region text, secret text)";
  pair.on_master(table +
                 "; INSERT INTO t SELECT i, CASE WHEN i % 2 = 0 THEN 'eu' ELSE 'us' END,"
                 " 'secret' FROM generate_series(1, 1000) i");
  pair.on_standby("CREATE TABLE t (id int PRIMARY KEY, region text)");
  pair.on_master("CREATE PUBLICATION bitacora_" + pair.name() +
                 " FOR TABLE t (id, region) WHERE (id > 100)");
  pair.start();
  pair.wait_applied();
  EXPECT_EQ(table_content(pair.standby(), "public.t"),
            table_content(pair.master(), "(SELECT id, region FROM public.t WHERE id > 100)"));
}

TEST(FirstCopy, WritesGoOnMeanwhile) {
  Pair pair(copying({"--create-schema", "--split-tables-larger-than", "1MB"}));
  pair.on_master(
      "CREATE TABLE big (id bigserial PRIMARY KEY, v text, n int);"
      "CREATE TABLE small (id bigserial PRIMARY KEY, n int);"
      "INSERT INTO big (v, n) SELECT md5(i::text) || repeat('x', i % 50), 0 FROM "
      "generate_series(1, "
      "200000) i; INSERT INTO small (n) SELECT i FROM generate_series(1, 100) i");
  std::jthread writer([&](const std::stop_token& stop) {
    for (int i = 0; !stop.stop_requested(); ++i) {
      pair.on_master(fmt::format(
          "BEGIN; INSERT INTO big (v, n) SELECT 'new', {0} FROM generate_series(1, 20);"
          " UPDATE big SET n = n + 1 WHERE id % 1000 = {0} % 1000;"
          " UPDATE big SET id = -id WHERE id = {0} + 500;"
          " DELETE FROM big WHERE id % 2000 = {0} % 2000; UPDATE small SET n = n + 1; COMMIT",
          i));
    }
  });
  pair.start();
  EXPECT_TRUE(eventually([&] { return pair.story().find("event=applying") != std::string::npos; },
                         milliseconds(60000)));
  std::this_thread::sleep_for(milliseconds(300));
  writer.request_stop();
  writer.join();
  pair.wait_applied(milliseconds(60000));
  EXPECT_TRUE(pair.same_content("public.big"));
  EXPECT_TRUE(pair.same_content("public.small"));
}

// What the log of a lost slot says is to be done.
TEST(FirstCopy, AnewAfterTheSlotWasLost) {
  Pair pair(copying({"--truncate"}));
  pair.on_both("CREATE TABLE t (id int PRIMARY KEY, v text)");
  pair.on_master("INSERT INTO t SELECT i, 'v' FROM generate_series(1, 100) i");
  pair.start();
  pair.wait_applied();
  pair.stop();
  pair.on_master("SELECT pg_drop_replication_slot('bitacora_" + pair.name() + "')");
  pair.on_master("DELETE FROM t WHERE id < 50; UPDATE t SET v = 'missed'");
  pair.start_sender();
  EXPECT_EQ(pair.sender().wait(milliseconds(20000)), 3);
  EXPECT_NE(pair.story().find("bitacora drop"), std::string::npos);
  for (const auto* word : {"--state-dir", "--data-dir", "bitacora.progress", "--truncate"})
    EXPECT_NE(pair.story().find(word), std::string::npos) << word;
  EXPECT_EQ(Pair::bitacora({"drop", "--master", pair.master(), "--stream", pair.name()}).exit_code,
            0);
  std::filesystem::remove_all(pair.state_dir());
  std::filesystem::remove_all(pair.data_dir());
  pair.on_standby("DELETE FROM bitacora.progress");
  pair.start();
  pair.on_master("INSERT INTO t VALUES (1, 'again')");
  pair.wait_applied();
  EXPECT_TRUE(pair.same_content("public.t"));
}

TEST(FirstCopy, SaysWhoHoldsATableLocked) {
  Pair pair(copying());
  pair.on_both("CREATE TABLE t (id int PRIMARY KEY)");
  pair.on_master("INSERT INTO t VALUES (1)");
  pair.start_sender();
  pair.wait_for_slot();
  pqxx::connection locker(pair.master());
  pqxx::work lock(locker);
  lock.exec("LOCK TABLE t");
  pair.start_receiver();
  const auto pid = std::to_string(locker.backendpid());
  EXPECT_TRUE(eventually([&] { return pair.story().find("pid " + pid) != std::string::npos; }))
      << pair.story();
  lock.abort();
  pair.wait_applied();
  EXPECT_TRUE(pair.same_content("public.t"));
}

TEST(FirstCopy, LargeObjectsAreNamed) {
  Pair pair(copying());
  pair.on_both("CREATE TABLE t (id int PRIMARY KEY)");
  pair.on_master("SELECT lo_create(0), lo_create(0)");
  pair.start();
  pair.wait_applied();
  EXPECT_NE(pair.story().find("event=large_objects count=2"), std::string::npos) << pair.story();
}

TEST(FirstCopy, StatusTellsHowFarItIs) {
  Pair pair(copying({"--create-schema"}));
  pair.on_master(kShop);
  pair.start();
  pair.wait_applied();
  const auto printed = Pair::bitacora({"status", "--http", pair.receiver_http(), "--json"});
  const auto copy = nlohmann::json::parse(printed.output)["copy"];
  EXPECT_EQ(copy["phase"], "done");
  EXPECT_EQ(copy["tables"], 2);
  EXPECT_EQ(copy["tables_copied"], 2);
  EXPECT_EQ(copy["rows"], 5500);
  EXPECT_GT(copy["steps_done"], 4);
  const auto story = pair.story();
  for (const char* words : {"shop.purchase", "5,000", "in all", "5,500", "ANALYZE"})
    EXPECT_NE(story.find(words), std::string::npos) << words << "\n" << story;
}

// Written over every second. A trigger of the standby makes the copy take more than two.
TEST(FirstCopy, IsOneLineOnATerminal) {
  Pair pair(copying());
  pair.on_both("CREATE TABLE t (id int)");
  pair.on_master("INSERT INTO t SELECT generate_series(1, 2000)");
  pair.on_standby(
      "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(2.5); "
      "RETURN NULL; END'; CREATE TRIGGER slow BEFORE INSERT ON t FOR EACH STATEMENT EXECUTE "
      "FUNCTION slow(); ALTER TABLE t ENABLE ALWAYS TRIGGER slow");
  pair.start_sender();
  pair.wait_for_slot();
  std::string command;
  for (const auto& word : receiver_command(pair, {{"--no-copy", ""}})) command += "'" + word + "' ";
  Process terminal({"script", "--quiet", "--flush", "--command", command, "/dev/null"});
  EXPECT_TRUE(
      eventually([&] { return terminal.output().find("event=applying") != std::string::npos; },
                 milliseconds(60000)))
      << terminal.output();
  EXPECT_NE(terminal.output().find("\r\x1b[Kcopying public.t: 0 of 1 tables, 0 of 1 parts"),
            std::string::npos)
      << terminal.output();
  EXPECT_NE(terminal.output().find("2,000"), std::string::npos);
}

// What cannot be copied is known before anything is begun.
TEST(FirstCopyRefused, AndNothingIsLeft) {
  Pair pair(copying());
  pair.on_both("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY)");
  pair.on_both("INSERT INTO t VALUES (1); INSERT INTO u VALUES (1)");
  pair.on_master("CREATE TABLE extra (id int)");
  pair.start_sender();
  pair.wait_for_slot();
  expect_receiver_refused(pair, {"tables hold rows",
                                 {{"--no-copy", ""}, {"--tables", "t,u"}},
                                 2,
                                 {"public.t, public.u", "--truncate", "--no-copy"}});
  expect_receiver_refused(pair, {"no such table",
                                 {{"--no-copy", ""}, {"--tables", "extra"}},
                                 5,
                                 {"public.extra", "--create-schema"}});
  EXPECT_EQ(query_value(pair.standby(), "SELECT count(*) FROM t"), "1");
}

TEST(FirstCopyRefused, TruncateEmptiesWhatHoldsRows) {
  Pair pair(copying({"--truncate"}));
  pair.on_both(
      "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY REFERENCES t)");
  pair.on_standby("INSERT INTO t VALUES (7); INSERT INTO u VALUES (7)");
  pair.on_master("INSERT INTO t VALUES (1); INSERT INTO u VALUES (1)");
  pair.start();
  pair.wait_applied();
  EXPECT_TRUE(pair.same_content("public.t"));
  EXPECT_TRUE(pair.same_content("public.u"));
}

TEST(FirstCopyRefused, WithoutTheRightToRead) {
  fresh_role(shared_master().conninfo(), "copy_reader", "LOGIN REPLICATION");
  Pair pair(copying());
  pair.on_both("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE secret (id int PRIMARY KEY)");
  pair.on_master("GRANT SELECT ON t TO copy_reader; CREATE PUBLICATION bitacora_" + pair.name() +
                 " FOR ALL TABLES");
  Process sender(sender_command(pair, {{"--master", pair.master() + " user=copy_reader"}}));
  pair.wait_for_slot();
  expect_receiver_refused(
      pair, {"no right", {{"--no-copy", ""}}, 4, {"public.secret", "GRANT SELECT", "copy_reader"}});
}

}  // namespace
}  // namespace bitacora::harness
