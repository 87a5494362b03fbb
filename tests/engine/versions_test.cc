// Every supported version as master and as standby: neighbours in both directions, the extremes,
// and a version with itself.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <map>
#include <stdexcept>

#include "engine/throwaway_cluster.h"
#include "tests/engine/table_life.h"
#include "tests/postgres/database.h"
#include "tests/postgres/servers.h"

namespace bitacora::harness {
namespace {

struct Versions {
  int master;
  int standby;
};

// One server of each version serves as master and as standby of many pairs.
engine::ThrowawayCluster& server(int version, const std::string& role) {
  return server_of(version, role, {{"max_prepared_transactions", "4"}});
}

std::vector<TableLife> lives() {
  const std::vector<std::string> changes = {
      "INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 20) i",
      "UPDATE t SET v = v || '!' WHERE id % 2 = 0", "UPDATE t SET id = id + 100 WHERE id < 4",
      "DELETE FROM t WHERE id % 5 = 0"};
  return {
      {"key", "CREATE TABLE t (id int PRIMARY KEY, v text)", changes},
      {"whole rows", "CREATE TABLE t (id int, v text); ALTER TABLE t REPLICA IDENTITY FULL",
       changes},
      {"types",
       "CREATE TYPE mood AS ENUM ('ok', 'bad'); CREATE TYPE pair AS (m mood, n numeric);"
       "CREATE DOMAIN whole AS int CHECK (VALUE > 0);"
       "CREATE TABLE t (id whole PRIMARY KEY, m mood, ms mood[], p pair, j jsonb, x xml, iv "
       "interval,"
       " ts timestamptz[], r numrange, mr int4multirange, tsv tsvector, n numeric, b bytea, jp "
       "jsonpath)",
       {"INSERT INTO t VALUES (1, 'ok', '{ok,NULL}', '(bad,1.50)', '{\"a\": [1, \"\\u00f1\"]}',"
        " '<a/>', '1 mon -2 days 3.5 secs', '{infinity,\"4713-01-01 BC\"}', '[1,)', '{[1,3),[5,)}',"
        " 'a:1A b:2', 'NaN', '\\x00ff', '$.a[*]'), (2, NULL, '{}', NULL, 'null', NULL, NULL, NULL,"
        " 'empty', '{}', '', 1e-20, '', NULL)",
        "UPDATE t SET m = 'bad', n = -0.00, iv = NULL WHERE id = 1",
        "UPDATE t SET id = 3 WHERE id = 2"}},
      {"toast",
       "CREATE TABLE t (id int PRIMARY KEY, v text, n int); ALTER TABLE t ALTER v SET STORAGE "
       "EXTERNAL",
       {"INSERT INTO t SELECT i, repeat(md5(i::text), 900), 0 FROM generate_series(1, 3) i",
        "UPDATE t SET n = 1", "UPDATE t SET id = 9 WHERE id = 2"}},
      {"computed columns",
       "CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text,"
       " g text GENERATED ALWAYS AS (v || v) STORED)",
       {"INSERT INTO t (v) SELECT 'v' || i FROM generate_series(1, 5) i",
        "UPDATE t SET id = DEFAULT WHERE id = 2", "UPDATE t SET v = 'w' WHERE id = 3"}},
      {"partitions and truncate",
       "CREATE TABLE t (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);"
       "CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (50);"
       "CREATE TABLE t_2 PARTITION OF t DEFAULT",
       {changes[0], "TRUNCATE t", changes[0], changes[1], changes[2], changes[3], "TRUNCATE t_2"},
       {"SELECT tableoid::regclass, * FROM t"}},
      {"prepared and rolled back transactions",
       "CREATE TABLE t (id int PRIMARY KEY)",
       {"BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'kept'",
        "BEGIN; INSERT INTO t VALUES (2); PREPARE TRANSACTION 'undone'", "INSERT INTO t VALUES (3)",
        "COMMIT PREPARED 'kept'", "ROLLBACK PREPARED 'undone'",
        "BEGIN; INSERT INTO t VALUES (4); SAVEPOINT s; INSERT INTO t VALUES (5); ROLLBACK TO s;"
        " COMMIT"}},
      {"a column added",
       "CREATE TABLE t (id int PRIMARY KEY, v text)",
       {"INSERT INTO t VALUES (1, 'a')", "ALTER TABLE t ADD w int", "UPDATE t SET w = 1"},
       {"SELECT id, v, w FROM t"},
       "CREATE TABLE t (w int, id int PRIMARY KEY, v text)"},
      {"a large transaction",
       "CREATE TABLE t (id int PRIMARY KEY, v text)",
       {"INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 20000) i",
        "UPDATE t SET v = v || 'x' WHERE id % 3 = 0"}},
  };
}

class VersionPairs : public testing::TestWithParam<Versions> {};

TEST_P(VersionPairs, LiveTheSame) {
  const auto [master, standby] = GetParam();
  const auto servers = available_servers();
  for (const int version : {master, standby}) {
    if (!servers.contains(version)) GTEST_SKIP() << why_missing(version);
  }
  Pair pair(server(master, "master"), server(standby, "standby"),
            {fmt::format("versions_{}_{}", master, standby), {}, {}, {}, false});
  const auto number = "SELECT current_setting('server_version_num')::int / 10000";
  EXPECT_EQ(query_value(pair.master(), number), std::to_string(master));
  EXPECT_EQ(query_value(pair.standby(), number), std::to_string(standby));
  run_live(pair, lives());
}

INSTANTIATE_TEST_SUITE_P(PostgreSql, VersionPairs,
                         testing::Values(Versions{14, 14}, Versions{14, 15}, Versions{14, 18},
                                         Versions{15, 15}, Versions{15, 16}, Versions{16, 15},
                                         Versions{16, 17}, Versions{17, 16}, Versions{17, 18},
                                         Versions{18, 14}, Versions{18, 17}, Versions{18, 18}),
                         [](const auto& versions) {
                           return fmt::format("From{}To{}", versions.param.master,
                                              versions.param.standby);
                         });

class VersionCopies : public testing::TestWithParam<Versions> {};

// Rows that are there before a pair is, into tables that the standby has.
TEST_P(VersionCopies, BringTheSame) {
  const auto [master, standby] = GetParam();
  const auto servers = available_servers();
  for (const int version : {master, standby}) {
    if (!servers.contains(version)) GTEST_SKIP() << why_missing(version);
  }
  Pair pair(server(master, "master"), server(standby, "standby"),
            {fmt::format("version_copies_{}_{}", master, standby), {}, {}, {}, true});
  std::vector<std::string> tables;
  for (const auto& life : lives()) {
    if (life.name.starts_with("prepared") || life.name == "a column added") continue;
    const auto schema = fmt::format("s{}", tables.size());
    tables.push_back(schema + ".t");
    pair.on_both("CREATE SCHEMA " + schema);
    execute(in_schema(pair.master(), schema), life.tables);
    execute(in_schema(pair.standby(), schema), life.tables);
    for (const auto& change : life.changes) execute(in_schema(pair.master(), schema), change);
  }
  pair.start();
  pair.on_master("UPDATE s0.t SET v = 'later' WHERE id > 10");
  pair.wait_applied();
  for (const auto& table : tables) {
    SCOPED_TRACE(table);
    EXPECT_TRUE(pair.same_content(table));
    EXPECT_NE(table_content(pair.standby(), table), "");
  }
}

INSTANTIATE_TEST_SUITE_P(PostgreSql, VersionCopies,
                         testing::Values(Versions{14, 18}, Versions{15, 14}, Versions{18, 15},
                                         Versions{16, 17}),
                         [](const auto& versions) {
                           return fmt::format("From{}To{}", versions.param.master,
                                              versions.param.standby);
                         });

}  // namespace
}  // namespace bitacora::harness
