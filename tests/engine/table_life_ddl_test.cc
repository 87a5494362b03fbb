// Names of every kind, and tables that are made and changed while rows flow.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/engine/table_life.h"
#include "tests/postgres/database.h"

namespace bitacora::harness {
namespace {

std::string quoted(const std::string& name) {
  std::string text = "\"";
  for (const char c : name) text += c == '"' ? std::string("\"\"") : std::string(1, c);
  return text + '"';
}

// Every name is a schema, a table, a key column and a type at once.
std::vector<TableLife> named() {
  std::vector<TableLife> cases;
  const std::string longest(63, 'x');
  for (const std::string name : {"Upper",
                                 "UPPER CASE",
                                 "select",
                                 "user",
                                 "table",
                                 "público",
                                 "表",
                                 "🦤",
                                 "a.b",
                                 "a,b",
                                 "*",
                                 "%",
                                 "$1",
                                 "{}",
                                 "{0}",
                                 "a\\b",
                                 "it's",
                                 "a\"b",
                                 "\"",
                                 "--",
                                 "/*",
                                 "a\"\"; drop table x; --",
                                 "'; DROP TABLE x; --",
                                 "new\nline",
                                 "tab\there",
                                 " leading",
                                 "trailing ",
                                 "!x",
                                 "?",
                                 "ctid ",
                                 "t",
                                 "o",
                                 "gone",
                                 "done",
                                 longest.c_str()}) {
    const auto q = quoted(name);
    const auto table = q + "." + q;
    const auto set_up = fmt::format(
        "CREATE SCHEMA IF NOT EXISTS {0}; CREATE TYPE {0}.{1} AS ENUM ('a', 'b');"
        "CREATE TABLE {0}.{0} ({0} int PRIMARY KEY, other {0}.{1}, big text);"
        "CREATE TABLE {0}.whole ({0} int, other {0}.{1}); ALTER TABLE {0}.whole REPLICA IDENTITY "
        "FULL",
        q, quoted(name.substr(0, 59) + "type"));
    cases.push_back(
        {name,
         set_up,
         {fmt::format("INSERT INTO {} SELECT i, 'a', 'v' FROM generate_series(1, 6) i", table),
          fmt::format("INSERT INTO {}.whole SELECT {}, other FROM {}", q, q, table),
          fmt::format("UPDATE {} SET other = 'b' WHERE {} = 1", table, q),
          fmt::format("UPDATE {0} SET {1} = {1} + 10 WHERE {1} = 2", table, q),
          fmt::format("DELETE FROM {} WHERE {} = 3", table, q),
          fmt::format("UPDATE {0}.whole SET {0} = -1 WHERE {0} = 4", q),
          fmt::format("DELETE FROM {0}.whole WHERE {0} = 5", q)},
         {table, q + ".whole"}});
  }
  return cases;
}

TABLE_LIFE(TableLifeNames, named)

std::vector<TableLife> changed() {
  const std::string table = "CREATE TABLE t (id int PRIMARY KEY, v text)";
  const std::string later =
      "CREATE TABLE t (v text, note int DEFAULT 5, id int PRIMARY KEY,"
      " added int)";
  return {
      {"a column that the standby already has",
       table,
       {"INSERT INTO t VALUES (1, 'a')", "ALTER TABLE t ADD added int",
        "INSERT INTO t VALUES (2, 'b', 2)", "UPDATE t SET added = 1 WHERE id = 1"},
       {"SELECT id, v, added FROM t"},
       later},
      {"a column dropped on the master",
       "CREATE TABLE t (id int PRIMARY KEY, gone int DEFAULT 1, v text)",
       {"INSERT INTO t VALUES (1, 1, 'a')", "ALTER TABLE t DROP gone",
        "INSERT INTO t VALUES (2, 'b')", "UPDATE t SET v = 'c' WHERE id = 1"},
       {"SELECT id, v FROM t"}},
      {"a transaction that changes the table and its rows",
       table,
       {"INSERT INTO t VALUES (1, 'a')",
        "BEGIN; UPDATE t SET v = 'b'; ALTER TABLE t ADD added int DEFAULT 3;"
        " INSERT INTO t VALUES (2, 'c', 4); ALTER TABLE t DROP v; INSERT INTO t VALUES (3, 5); "
        "COMMIT"},
       {"SELECT id, added FROM t WHERE id > 1"},
       later},
      {"a table rewritten with another type",
       table,
       {"INSERT INTO t VALUES (1, '7')", "ALTER TABLE t ALTER v TYPE int USING v::int",
        "INSERT INTO t VALUES (2, 8)", "UPDATE t SET v = v + 1"},
       {"SELECT id, v::text FROM t"}},
      {"made in the transaction that fills it",
       "CREATE TABLE other (id int)",
       {"BEGIN; CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2);"
        " DELETE FROM t WHERE id = 2; COMMIT"},
       {"t"},
       "CREATE TABLE other (id int); CREATE TABLE t (id int PRIMARY KEY)"},
      {"dropped and made anew",
       table,
       {"INSERT INTO t VALUES (1, 'a')", "DELETE FROM t", "DROP TABLE t",
        "CREATE TABLE t (id int PRIMARY KEY, w int)", "INSERT INTO t VALUES (1, 2)"},
       {"SELECT id, w FROM t"},
       "CREATE TABLE t (id int PRIMARY KEY, v text, w int)"},
      {"vacuumed, clustered, analysed",
       table,
       {"INSERT INTO t SELECT i, 'v' FROM generate_series(1, 50) i", "VACUUM FULL t",
        "UPDATE t SET v = 'w'", "CLUSTER t USING t_pkey", "DELETE FROM t WHERE id > 5",
        "ANALYZE t"}},
  };
}

TABLE_LIFE(TableLifeDdl, changed)

TEST(TableLifeNewTables, AppearWithTheirFirstRow) {
  Pair pair;
  pair.start();
  pair.on_both("CREATE TABLE before_first (id int PRIMARY KEY)");
  pair.on_master("INSERT INTO before_first VALUES (1)");
  pair.wait_applied();
  EXPECT_TRUE(pair.same_content("public.before_first"));

  pair.on_master("CREATE TABLE late (id int PRIMARY KEY); INSERT INTO late VALUES (1)");
  EXPECT_EQ(pair.receiver().wait(std::chrono::seconds(20)), 5);
  EXPECT_NE(pair.story().find("no table public.late"), std::string::npos) << pair.story();
  pair.on_standby("CREATE TABLE late (id int PRIMARY KEY)");
  pair.start_receiver();
  pair.wait_applied();
  EXPECT_TRUE(pair.same_content("public.late"));
  EXPECT_EQ(query_value(pair.standby(), "SELECT count(*) FROM late"), "1");
}

TEST(TableLifeNewColumns, OnBothSidesWhileRowsFlow) {
  Pair pair;
  pair.on_both("CREATE TABLE t (id int PRIMARY KEY, v text)");
  pair.start();
  pair.on_master("INSERT INTO t VALUES (1, 'a'), (2, 'b')");
  pair.wait_applied();
  for (const std::string sql : {"ALTER TABLE t ADD w int DEFAULT 7", "ALTER TABLE t ADD x text"}) {
    pair.on_standby(sql);
    pair.on_master("UPDATE t SET v = v || '-'");  // still in the old shape
    pair.on_master(sql);
    pair.on_master("UPDATE t SET v = v || '+', w = w + 1");
    pair.wait_applied();
    EXPECT_TRUE(pair.same_content("public.t")) << sql;
  }
}

TEST(TableLifeNewColumns, OnTheMasterOnlyStopIt) {
  Pair pair;
  pair.on_both("CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE u (id int PRIMARY KEY)");
  pair.start();
  pair.on_master("INSERT INTO t VALUES (1, 'a')");
  pair.wait_applied();
  pair.on_master("ALTER TABLE t ADD fresh int");
  pair.on_master("INSERT INTO u VALUES (1); INSERT INTO t VALUES (2, 'b', 22)");
  pair.on_master("UPDATE t SET fresh = 11 WHERE id = 1; INSERT INTO u VALUES (2)");
  EXPECT_EQ(pair.receiver().wait(std::chrono::seconds(20)), 5);
  EXPECT_NE(pair.story().find("has no column fresh"), std::string::npos) << pair.story();
  EXPECT_EQ(query_value(pair.standby(), "SELECT count(*) FROM u"), "0");
  pair.on_master("INSERT INTO t VALUES (3, 'c', 33)");
  pair.on_standby("ALTER TABLE t ADD fresh int");
  pair.start_receiver();
  pair.wait_applied();
  EXPECT_TRUE(pair.same_content("public.t"));
  EXPECT_TRUE(pair.same_content("public.u"));
  EXPECT_EQ(query_value(pair.standby(), "SELECT sum(fresh) FROM t"), "66");
}

}  // namespace
}  // namespace bitacora::harness
