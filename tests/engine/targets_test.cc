// Tables that are called or shaped otherwise on the standby, and several masters in one of its
// tables: copied first, then followed.
#include <gtest/gtest.h>

#include <fstream>

#include <fmt/format.h>

#include "tests/postgres/database.h"
#include "tests/postgres/pair.h"

namespace bitacora::harness {
namespace {

// Written where the pair's --config finds it.
std::string config_file(const std::string& name, const std::string& text) {
  auto path = testing::TempDir() + "bitacora_" + name + ".toml";
  std::ofstream(path) << text;
  return path;
}

PairOptions shaped(const std::string& config, std::vector<std::string> receiver_arguments = {}) {
  PairOptions options;
  options.copy = true;
  options.receiver_arguments = std::move(receiver_arguments);
  options.receiver_arguments.push_back("--config");
  options.receiver_arguments.push_back(config_file(options.name, config));
  return options;
}

std::string rows(const std::string& conninfo, const std::string& query) {
  return query_value(conninfo, fmt::format("SELECT coalesce(string_agg(line::text, E'\\n' ORDER BY "
                                           "line::text), '') FROM ({}) AS line",
                                           query));
}

void expect_rows(const Pair& pair, const std::string& on_master, const std::string& on_standby) {
  EXPECT_EQ(rows(pair.master(), on_master), rows(pair.standby(), on_standby));
}

constexpr const char* kMasterTables =
    "CREATE SCHEMA shop; CREATE TYPE shop.mood AS ENUM ('good', 'bad');"
    "CREATE TABLE shop.orders (note text, id bigint PRIMARY KEY, total numeric, doc text,"
    " mood shop.mood);"
    "ALTER TABLE shop.orders ALTER doc SET STORAGE EXTERNAL;"
    "CREATE TABLE shop.plain (a int, b text); ALTER TABLE shop.plain REPLICA IDENTITY FULL;"
    "CREATE TABLE shop.item (\"Odd id\" int PRIMARY KEY, b text);"
    "ALTER TABLE shop.orders ADD item int REFERENCES shop.item;"
    "INSERT INTO shop.orders SELECT 'n', i, i, repeat('x' || i, 2000), 'good'"
    " FROM generate_series(1, 200) i;"
    "INSERT INTO shop.plain SELECT i % 7, 'p' FROM generate_series(1, 50) i;"
    "INSERT INTO shop.item SELECT i, 'i' FROM generate_series(1, 50) i;";

constexpr const char* kStandbyTables =
    "CREATE SCHEMA tienda; CREATE TYPE tienda.mood AS ENUM ('good', 'bad');"
    "CREATE TYPE region AS ENUM ('us', 'eu'); CREATE SCHEMA ventas;"
    "CREATE TABLE ventas.pedidos (region region, pedido bigint, importe numeric, doc text,"
    " mood tienda.mood, item int, seen timestamptz DEFAULT now(), PRIMARY KEY (region, pedido));"
    "CREATE TABLE tienda.plain (b text, a int);"
    "CREATE TABLE tienda.item (nr int PRIMARY KEY, b text);"
    "ALTER TABLE ventas.pedidos ADD FOREIGN KEY (item) REFERENCES tienda.item";

constexpr const char* kConfig =
    "[schemas]\nshop = \"tienda\"\n"
    "[table.\"shop.orders\"]\nto = \"ventas.pedidos\"\n"
    "columns = { id = \"pedido\", total = \"importe\" }\n"
    "leave_out = [\"note\"]\nconstants = { region = \"eu\" }\n"
    "[table.\"shop.item\"]\ncolumns = { \"Odd id\" = \"nr\" }\n";

void expect_all_equal(const Pair& pair) {
  expect_rows(
      pair, "SELECT 'eu' r, id, total, doc, mood FROM shop.orders",
      "SELECT region r, pedido, importe, doc, mood FROM ventas.pedidos WHERE region = 'eu'");
  expect_rows(pair, "SELECT a, b FROM shop.plain", "SELECT a, b FROM tienda.plain");
  expect_rows(pair, "SELECT \"Odd id\", b FROM shop.item", "SELECT nr, b FROM tienda.item");
}

void write(const Pair& pair) {
  pair.on_master(
      "INSERT INTO shop.orders SELECT 'n', i, i, repeat('y' || i, 2000), 'bad'"
      " FROM generate_series(1001, 1100) i;"
      "UPDATE shop.orders SET total = total + 0.5 WHERE id % 3 = 0;"  // doc is unchanged TOAST
      "UPDATE shop.orders SET note = 'only what is left out' WHERE id % 5 = 0;"
      "UPDATE shop.orders SET id = id + 5000 WHERE id % 7 = 0;"
      "DELETE FROM shop.orders WHERE id % 11 = 0;"
      "UPDATE shop.plain SET b = 'q' WHERE a = 3; DELETE FROM shop.plain WHERE a = 4;"
      "UPDATE shop.item SET \"Odd id\" = \"Odd id\" + 100 WHERE \"Odd id\" % 2 = 0");
}

class Targets : public testing::TestWithParam<std::vector<std::string>> {};

TEST_P(Targets, OtherNamesAndShapes) {
  Pair pair(shaped(kConfig, GetParam()));
  pair.on_master(kMasterTables);
  pair.on_standby(kStandbyTables);
  // Somebody else's: it is in nobody's way, and nobody touches it.
  pair.on_standby("INSERT INTO ventas.pedidos VALUES ('us', 1, 7), ('us', 1001, 7)");
  pair.start();
  pair.wait_applied();
  expect_all_equal(pair);
  write(pair);
  for (int i = 0; i < 20; ++i) {
    pair.on_master(
        fmt::format("INSERT INTO shop.orders VALUES ('', {0}, 1, '{0}', 'good', 1);"
                    "UPDATE shop.orders SET total = 2 WHERE id = {0}",
                    20000 + i));
  }
  pair.wait_applied();
  expect_all_equal(pair);
  // Where rows of others are, TRUNCATE takes our own only.
  pair.on_master("TRUNCATE shop.orders, shop.item; INSERT INTO shop.orders VALUES ('', 1, 1)");
  pair.wait_applied();
  expect_all_equal(pair);
  EXPECT_EQ(query_value(pair.standby(), "SELECT count(*) FROM ventas.pedidos"), "3");
  EXPECT_EQ(query_value(pair.standby(), "SELECT count(*) FROM ventas.pedidos WHERE seen IS NULL"),
            "0");
}

INSTANTIATE_TEST_SUITE_P(
    Paths, Targets,
    testing::Values(std::vector<std::string>{}, std::vector<std::string>{"--apply-path", "exact"},
                    std::vector<std::string>{"--apply-path", "fast"},
                    std::vector<std::string>{"--workers", "4"},
                    std::vector<std::string>{"--conflict", "shop.*=overwrite"}));

// The sender gets the names of what is not to be created as patterns.
TEST(TargetsSchema, OddNamesStandForThemselves) {
  Pair pair(
      shaped("[table.'public.\"a.b\"']\nto = \"public.ab\"\n"
             "[table.'public.\"a*\"']\nto = \"public.star\"\n",
             {"--create-schema"}));
  pair.on_master(
      "CREATE TABLE \"a.b\" (id int PRIMARY KEY); INSERT INTO \"a.b\" VALUES (1);"
      "CREATE TABLE \"a*\" (id int PRIMARY KEY); INSERT INTO \"a*\" VALUES (2);"
      "CREATE TABLE axe (id int PRIMARY KEY); INSERT INTO axe VALUES (3)");
  pair.on_standby("CREATE TABLE ab (id int PRIMARY KEY); CREATE TABLE star (id int PRIMARY KEY)");
  pair.start();
  pair.wait_applied();
  expect_rows(pair, "SELECT * FROM \"a.b\"", "SELECT * FROM ab");
  expect_rows(pair, "SELECT * FROM \"a*\"", "SELECT * FROM star");
  expect_rows(pair, "SELECT * FROM axe", "SELECT * FROM axe");
  EXPECT_EQ(query_value(pair.standby(),
                        "SELECT count(*) FROM pg_tables WHERE schemaname = "
                        "'public'"),
            "3");
}

TEST(TargetsResync, LeavesTheRowsOfOthers) {
  Pair pair(shaped(kConfig));
  pair.on_master(kMasterTables);
  pair.on_standby(kStandbyTables);
  pair.start();
  pair.wait_applied();
  pair.on_standby(
      "INSERT INTO ventas.pedidos VALUES ('us', 1, 7); UPDATE ventas.pedidos SET importe = 0;"
      "DELETE FROM ventas.pedidos WHERE pedido = 5; DELETE FROM tienda.item");
  for (const auto* table : {"shop.orders", "shop.item"}) {
    const auto resync = Pair::bitacora({"resync", "--http", pair.receiver_http(), table});
    ASSERT_EQ(resync.exit_code, 0) << resync.error_output;
  }
  write(pair);
  pair.wait_applied();
  expect_all_equal(pair);
  EXPECT_EQ(query_value(pair.standby(), "SELECT importe FROM ventas.pedidos WHERE region = 'us'"),
            "0");
}

// The row and the statement that mends it are the standby's; the rule has the master's names.
TEST(TargetsConflict, IsToldInTheStandbysNames) {
  Pair pair(shaped(kConfig, {"--conflict", "shop.item=keep"}));
  pair.on_master(kMasterTables);
  pair.on_standby(kStandbyTables);
  pair.start();
  pair.wait_applied();
  pair.on_standby("INSERT INTO tienda.item VALUES (9000, 'ours'); DELETE FROM ventas.pedidos");
  pair.on_master("INSERT INTO shop.item VALUES (9000, 'theirs')");
  pair.wait_applied();
  EXPECT_EQ(query_value(pair.standby(), "SELECT b FROM tienda.item WHERE nr = 9000"), "ours");
  pair.on_master("DELETE FROM shop.orders WHERE id = 1");
  EXPECT_EQ(pair.receiver().wait(std::chrono::seconds(20)), 5);
  const auto story = pair.receiver().error_output();
  EXPECT_NE(story.find("ventas.pedidos"), std::string::npos) << story;
  EXPECT_NE(story.find("pedido"), std::string::npos) << story;
}

// Two masters, two receivers, one table; each has a progress row of its own.
TEST(TargetsShared, TwoMasters) {
  const auto config = [](const char* region) {
    return fmt::format(
        "[table.\"public.t\"]\nto = \"public.all_t\"\nconstants = {{ region = \"{}\" }}\n"
        "shared = true\n",
        region);
  };
  Pair eu(shaped(config("eu")));
  PairOptions other;
  other.name = eu.name() + "_us";
  other.copy = true;
  other.standby_database = eu.name();
  other.receiver_arguments = {"--config", config_file(other.name, config("us"))};
  Pair us(std::move(other));
  for (const auto* pair : {&eu, &us}) {
    pair->on_master(
        "CREATE TABLE t (id serial PRIMARY KEY, v text);"
        "INSERT INTO t (v) SELECT 'v' FROM generate_series(1, 100)");
  }
  eu.on_standby("CREATE TABLE all_t (region text, id int, v text, PRIMARY KEY (region, id))");
  eu.start();
  us.start();
  const auto expect_both = [&] {
    eu.wait_applied();
    us.wait_applied();
    expect_rows(eu, "SELECT id, v FROM t", "SELECT id, v FROM all_t WHERE region = 'eu'");
    expect_rows(us, "SELECT id, v FROM t", "SELECT id, v FROM all_t WHERE region = 'us'");
  };
  expect_both();
  eu.on_master("UPDATE t SET v = 'eu' WHERE id % 2 = 0; DELETE FROM t WHERE id % 5 = 0");
  us.on_master("UPDATE t SET id = id + 1000 WHERE id % 3 = 0");
  expect_both();
  eu.on_master("TRUNCATE t; INSERT INTO t (v) VALUES ('again')");
  expect_both();
  us.on_standby("UPDATE all_t SET v = 'spoiled'");
  ASSERT_EQ(Pair::bitacora({"resync", "--http", us.receiver_http(), "public.t"}).exit_code, 0);
  us.wait_applied();
  expect_rows(us, "SELECT id, v FROM t", "SELECT id, v FROM all_t WHERE region = 'us'");
  EXPECT_EQ(query_value(eu.standby(), "SELECT v FROM all_t WHERE region = 'eu'"), "spoiled");
  EXPECT_EQ(query_value(eu.standby(), "SELECT count(*) FROM bitacora.progress"), "2");
}

// Rows that move from one to the other are deleted and inserted in the master's order.
TEST(TargetsShared, PartitionsInOneTable) {
  Pair pair(
      shaped("[table.\"public.odd\"]\nto = \"public.t\"\nshared = true\n"
             "[table.\"public.even\"]\nto = \"public.t\"\nshared = true\n",
             {"--apply-path", "fast"}));
  pair.on_master(
      "CREATE TABLE t (id int, side int, v text) PARTITION BY LIST (side);"
      "CREATE TABLE odd PARTITION OF t (PRIMARY KEY (id)) FOR VALUES IN (1);"
      "CREATE TABLE even PARTITION OF t (PRIMARY KEY (id)) FOR VALUES IN (0);"
      "INSERT INTO t SELECT i, i % 2, 'v' FROM generate_series(1, 1000) i");
  pair.on_standby("CREATE TABLE t (id int PRIMARY KEY, side int, v text)");
  pair.start();
  pair.wait_applied();
  expect_rows(pair, "SELECT * FROM t", "SELECT * FROM t");
  for (int i = 0; i < 5; ++i) pair.on_master("UPDATE t SET side = 1 - side WHERE id % 3 = 0");
  pair.on_master(
      "BEGIN; UPDATE t SET side = 1 - side; UPDATE t SET side = 1 - side, v = 'w'; COMMIT");
  pair.wait_applied();
  expect_rows(pair, "SELECT * FROM t", "SELECT * FROM t");
  EXPECT_EQ(pair.receiver().error_output().find("event=exact_path"), std::string::npos)
      << "written set by set, one of them failed";
  // Whose rows are to go, nobody knows.
  pair.on_master("TRUNCATE odd");
  EXPECT_EQ(pair.receiver().wait(std::chrono::seconds(20)), 5);
  EXPECT_NE(pair.receiver().error_output().find("TRUNCATE of public.odd"), std::string::npos)
      << pair.receiver().error_output();
  EXPECT_EQ(query_value(pair.standby(), "SELECT count(*) FROM t"), "1000");
}

// Its parts are many, and cannot be emptied either.
TEST(TargetsShared, APartitionedRootLeavesTheRowsOfOthers) {
  auto options = shaped("[table.\"public.t\"]\nshared = true\n");
  options.sender_arguments = {"--publish-via-partition-root"};
  Pair pair(std::move(options));
  pair.on_master(
      "CREATE TABLE t (id int, side int) PARTITION BY LIST (side);"
      "CREATE TABLE odd PARTITION OF t FOR VALUES IN (1);"
      "CREATE TABLE even PARTITION OF t FOR VALUES IN (0);"
      "INSERT INTO t SELECT i, i % 2 FROM generate_series(1, 10) i");
  pair.on_standby("CREATE TABLE t (id int, side int); INSERT INTO t VALUES (-1, 7)");
  pair.start();
  pair.wait_applied();
  expect_rows(pair, "SELECT * FROM t", "SELECT * FROM t WHERE side < 7");
  EXPECT_EQ(query_value(pair.standby(), "SELECT count(*) FROM t"), "11");
}

// A switch-over must not hand out ids that are taken, whatever the tables are called.
TEST(TargetsSequences, GoWithTheirColumns) {
  Pair pair(
      shaped("[schemas]\nshop = \"tienda\"\n[table.\"shop.orders\"]\n"
             "to = \"ventas.pedidos\"\ncolumns = { id = \"nr\" }\n"));
  pair.on_master(
      "CREATE SCHEMA shop; CREATE TABLE shop.orders (id int GENERATED ALWAYS AS IDENTITY PRIMARY"
      " KEY); CREATE TABLE shop.item (id serial PRIMARY KEY); CREATE SEQUENCE shop.ticket");
  pair.on_standby(
      "CREATE SCHEMA tienda; CREATE SCHEMA ventas; CREATE TABLE ventas.pedidos (nr int GENERATED"
      " ALWAYS AS IDENTITY PRIMARY KEY); CREATE TABLE tienda.item (id serial PRIMARY KEY);"
      "CREATE SEQUENCE tienda.ticket");
  pair.start();
  pair.on_master(
      "INSERT INTO shop.orders SELECT FROM generate_series(1, 41);"
      "INSERT INTO shop.item SELECT FROM generate_series(1, 7); SELECT setval('shop.ticket', 5)");
  pair.wait_applied();
  const auto synced = Pair::bitacora({"sequences", "--now", "--http", pair.receiver_http()});
  EXPECT_EQ(synced.exit_code, 0) << synced.error_output;
  EXPECT_EQ(query_value(pair.standby(), "SELECT nextval('ventas.pedidos_nr_seq')"), "42");
  EXPECT_EQ(query_value(pair.standby(), "SELECT nextval('tienda.item_id_seq')"), "8");
  EXPECT_EQ(query_value(pair.standby(), "SELECT nextval('tienda.ticket')"), "6");
}

}  // namespace
}  // namespace bitacora::harness
