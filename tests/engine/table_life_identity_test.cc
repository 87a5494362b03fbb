// How an UPDATE or DELETE finds its row: replica identities, key changes, unchanged TOAST values.
#include <gtest/gtest.h>

#include <pqxx/pqxx>

#include "tests/engine/table_life.h"
#include "tests/postgres/database.h"

namespace bitacora::harness {
namespace {

// 12 KB that compress to nearly nothing, and 32 KB that do not compress.
const std::string kCompressible = "repeat('toast', 2500)";
const std::string kIncompressible =
    "(SELECT string_agg(md5(i::text || random()), '') FROM generate_series(1, 1000) i)";

std::vector<TableLife> identities() {
  const std::string rows = "INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 20) i";
  const std::vector<std::string> changes = {
      rows, "UPDATE t SET v = v || '!' WHERE id % 2 = 0", "DELETE FROM t WHERE id % 5 = 0",
      "UPDATE t SET id = id + 100 WHERE id < 4", "UPDATE t SET v = NULL WHERE id > 17"};
  return {
      {"default", "CREATE TABLE t (id int PRIMARY KEY, v text)", changes},
      {"two key columns, one toggled",
       "CREATE TABLE t (id int, part int DEFAULT 1, v text, PRIMARY KEY (part, id))",
       {"INSERT INTO t SELECT i, i % 3, 'v' FROM generate_series(1, 20) i",
        "UPDATE t SET part = part + 3 WHERE id % 2 = 0", "DELETE FROM t WHERE part = 4"}},
      {"index",
       "CREATE TABLE t (serial bigserial PRIMARY KEY, id int NOT NULL, v text);"
       "CREATE UNIQUE INDEX t_id ON t (id) INCLUDE (v);"
       "ALTER TABLE t REPLICA IDENTITY USING INDEX t_id",
       {"INSERT INTO t (id, v) SELECT i, 'v' || i FROM generate_series(1, 20) i",
        "UPDATE t SET v = 'x', serial = serial + 50 WHERE id < 5", "UPDATE t SET id = id + 100",
        "DELETE FROM t WHERE id > 115"}},
      {"full, a key on the standby",
       "CREATE TABLE t (id int PRIMARY KEY, v text); ALTER TABLE t REPLICA IDENTITY FULL", changes},
      {"full, a key on the standby only",
       "CREATE TABLE t (id int, v text); ALTER TABLE t REPLICA IDENTITY FULL",
       changes,
       {"SELECT id, v FROM t"},
       "CREATE TABLE t (v text, id int NOT NULL UNIQUE)"},
      {"full, no key", "CREATE TABLE t (id int, v text); ALTER TABLE t REPLICA IDENTITY FULL",
       changes},
      {"full, another identity on the standby",
       "CREATE TABLE t (id int, v text); ALTER TABLE t REPLICA IDENTITY FULL",
       changes,
       {"t"},
       "CREATE TABLE t (id int, v text); ALTER TABLE t REPLICA IDENTITY NOTHING"},
      {"nothing, inserts only",
       "CREATE TABLE t (id int PRIMARY KEY, v text); ALTER TABLE t REPLICA IDENTITY NOTHING",
       {rows}},
      {"identity changed in between",
       "CREATE TABLE t (id int PRIMARY KEY, v text)",
       {rows, "UPDATE t SET v = 'a' WHERE id < 5", "ALTER TABLE t REPLICA IDENTITY FULL",
        "UPDATE t SET v = 'b' WHERE id < 8", "DELETE FROM t WHERE id = 1",
        "ALTER TABLE t REPLICA IDENTITY DEFAULT", "UPDATE t SET v = 'c' WHERE id > 11",
        "DELETE FROM t WHERE id = 2"}},
  };
}

TABLE_LIFE(TableLifeIdentity, identities)

std::vector<TableLife> whole_rows() {
  const std::string full = "; ALTER TABLE t REPLICA IDENTITY FULL";
  return {
      {"of equal rows one is taken",
       "CREATE TABLE t (a int, b text)" + full,
       {"INSERT INTO t SELECT 1, 'same' FROM generate_series(1, 5)",
        "DELETE FROM t WHERE ctid = (SELECT min(ctid) FROM t)",
        "UPDATE t SET b = 'one' WHERE ctid = (SELECT min(ctid) FROM t)",
        "UPDATE t SET a = 2 WHERE b = 'same'"}},
      {"nulls find their row",
       "CREATE TABLE t (a int, b text, c float8)" + full,
       {"INSERT INTO t VALUES (NULL, NULL, NULL), (1, NULL, 2), (NULL, 'x', NULL), (1, '', 2)",
        "UPDATE t SET c = 5 WHERE a IS NULL AND b IS NULL", "DELETE FROM t WHERE b = ''",
        "UPDATE t SET b = 'y', a = 7 WHERE b = 'x'", "DELETE FROM t WHERE a = 7"}},
      {"types without equality",
       "CREATE TABLE t (j json, p point, b box, x xml, l lseg[], q tsquery)" + full,
       {"INSERT INTO t VALUES ('{\"a\":  1}', '(1,2)', '((1,1),(2,2))', '<a>1</a>',"
        "  '{\"[(1,2),(3,4)]\"}', 'a & b'),"
        " ('{\"a\":1}', '(1,2)', '((1,1),(2,2))', '<a>1</a>', NULL, 'a & b')",
        "UPDATE t SET p = '(3,4)' WHERE l IS NULL", "UPDATE t SET j = NULL WHERE l IS NOT NULL",
        "DELETE FROM t WHERE l IS NULL"}},
      {"equal, but not the same bytes",
       "CREATE TABLE t (n numeric, f float8, c char(5))" + full,
       {"INSERT INTO t VALUES (1.0, 0, 'a'), (1.00, '-0', 'a'), (1.000, 0, 'a'), ('NaN', 'NaN', "
        "'')",
        "UPDATE t SET c = 'second' ::char(5) WHERE n::text = '1.00'",
        "DELETE FROM t WHERE n::text = '1.000'", "UPDATE t SET n = 1.00000 WHERE n = 1 AND c = 'a'",
        "UPDATE t SET f = 1 WHERE n = 'NaN'"}},
      {"every column changes",
       "CREATE TABLE t (a int, b text)" + full,
       {"INSERT INTO t VALUES (1, 'x'), (2, 'y')", "UPDATE t SET a = a + 10, b = b || b",
        "UPDATE t SET a = NULL, b = NULL WHERE a = 11", "DELETE FROM t WHERE a IS NULL"}},
      {"columns only the standby has",
       "CREATE TABLE t (a int, b text)" + full,
       {"INSERT INTO t VALUES (1, 'x'), (2, 'y'), (2, 'y')", "UPDATE t SET b = 'z' WHERE a = 1",
        "DELETE FROM t WHERE ctid = (SELECT max(ctid) FROM t WHERE a = 2)"},
       {"SELECT a, b FROM t"},
       "CREATE TABLE t (extra text DEFAULT 'mine', a int, b text)",
       {{"SELECT count(*) FROM t WHERE extra = 'mine'", "2"}}},
  };
}

TABLE_LIFE(TableLifeWholeRows, whole_rows)

std::vector<TableLife> toasted() {
  const std::string columns = "(id int PRIMARY KEY, n int, big text, raw text, b bytea)";
  const std::string external = "; ALTER TABLE t ALTER raw SET STORAGE EXTERNAL";
  const std::vector<std::string> changes = {
      "INSERT INTO t SELECT i, 0, " + kCompressible + " || i, " + kIncompressible +
          " || i, decode(md5(i::text), 'hex') FROM generate_series(1, 4) i",
      "UPDATE t SET n = 1",
      "UPDATE t SET n = 2, big = 'small' WHERE id = 1",
      "UPDATE t SET id = id + 10 WHERE id < 4",
      "UPDATE t SET n = 3, raw = NULL WHERE id = 4",
      "BEGIN; UPDATE t SET n = 4 WHERE id = 11; UPDATE t SET raw = raw || 'x' WHERE id = 11;"
      " UPDATE t SET n = 5 WHERE id = 11; COMMIT",
      "DELETE FROM t WHERE id = 12"};
  return {
      {"unchanged values stay", "CREATE TABLE t " + columns + external, changes},
      {"with full identity",
       "CREATE TABLE t " + columns + external + "; ALTER TABLE t REPLICA IDENTITY FULL", changes},
      {"with full identity and no key",
       "CREATE TABLE t (id int, n int, big text, raw text, b bytea)" + external +
           "; ALTER TABLE t REPLICA IDENTITY FULL",
       changes},
      {"a key that is toasted itself",
       "CREATE TABLE t (k text, n int, v text); ALTER TABLE t ALTER k SET STORAGE EXTERNAL;"
       "CREATE UNIQUE INDEX t_k ON t (k); ALTER TABLE t ALTER k SET NOT NULL;"
       "ALTER TABLE t REPLICA IDENTITY USING INDEX t_k",
       {"INSERT INTO t SELECT repeat('k', 2300) || i, i, " + kIncompressible +
            " FROM generate_series(1, 4) i",
        "UPDATE t SET n = 10 WHERE n = 1", "UPDATE t SET k = k || 'x' WHERE n = 2",
        "UPDATE t SET k = 'short' WHERE n = 3", "UPDATE t SET n = n + 1",
        "DELETE FROM t WHERE n = 5"}},
      {"many versions of one row in one transaction",
       "CREATE TABLE t " + columns,
       {"BEGIN; INSERT INTO t VALUES (1, 0, " + kCompressible + ", " + kIncompressible +
        ", NULL); UPDATE t SET n = 1; UPDATE t SET id = 2; UPDATE t SET n = 3; COMMIT"}},
  };
}

TABLE_LIFE(TableLifeToast, toasted)

std::vector<TableLife> keys() {
  return {
      {"a chain through each other's places",
       "CREATE TABLE t (id int PRIMARY KEY, v text)",
       {"INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 10) i",
        "BEGIN; UPDATE t SET id = 0 WHERE id = 1; UPDATE t SET id = 1 WHERE id = 2;"
        " UPDATE t SET id = 2 WHERE id = 0; COMMIT",
        "BEGIN; DELETE FROM t WHERE id = 3; UPDATE t SET id = 3 WHERE id = 4;"
        " INSERT INTO t VALUES (4, 'new'); UPDATE t SET id = 30 WHERE id = 3; COMMIT"}},
      {"a key that is equal and yet another",
       "CREATE TABLE t (n numeric, f float8, c char(8), v int, PRIMARY KEY (n, f, c))",
       {"INSERT INTO t VALUES (1.0, 0, 'a', 1), (2.0, 0, 'b', 2)",
        "UPDATE t SET n = 1.0000 WHERE v = 1", "UPDATE t SET f = '-0' WHERE v = 2",
        "UPDATE t SET v = 3 WHERE f = 0 AND n = 2"}},
      {"deleted and made anew",
       "CREATE TABLE t (id int PRIMARY KEY, v text, w int DEFAULT 7)",
       {"INSERT INTO t VALUES (1, 'a')",
        "BEGIN; DELETE FROM t; INSERT INTO t VALUES (1, 'b'); UPDATE t SET v = 'c'; DELETE FROM t;"
        " INSERT INTO t VALUES (1, 'd', 8); COMMIT"}},
      {"inserted and gone in one transaction",
       "CREATE TABLE t (id int PRIMARY KEY, v text)",
       {"BEGIN; INSERT INTO t VALUES (1, 'a'), (2, 'b'); UPDATE t SET id = 3 WHERE id = 1;"
        " DELETE FROM t WHERE id = 3; COMMIT"}},
      {"keys of many types",
       "CREATE TABLE t (u uuid, d date, ts timestamptz, b bytea, n name, i inet, bits varbit,"
       " PRIMARY KEY (u, d, ts, b, n, i, bits), v int)",
       {"INSERT INTO t SELECT md5(i::text)::uuid, '2000-01-01'::date + i, to_timestamp(i),"
        " decode(md5(i::text), 'hex'), 'n' || i, '10.0.0.0'::inet + i, i::bit(9)::varbit, i"
        " FROM generate_series(1, 10) i",
        "UPDATE t SET v = -v WHERE v % 2 = 0", "UPDATE t SET d = d + 1, bits = '1' WHERE v % 3 = 0",
        "DELETE FROM t WHERE v % 5 = 0"}},
      {"an array, a range and a json as key",
       "CREATE TABLE t (a int[], r int4range, j jsonb, PRIMARY KEY (a, r, j), v int)",
       {"INSERT INTO t SELECT ARRAY[i, NULL], int4range(i, i + 2), jsonb_build_object('i', i), i"
        " FROM generate_series(1, 10) i",
        "UPDATE t SET v = -v WHERE v % 2 = 0",
        "UPDATE t SET a = a || 1, r = 'empty' WHERE v % 3 = 0", "DELETE FROM t WHERE v % 5 = 0"}},
  };
}

TABLE_LIFE(TableLifeKeys, keys)

// What the standby could not be told must not happen on the master either.
TEST(TableLifeRefusals, MasterRefusesWhatHasNoIdentity) {
  Pair pair;
  pair.on_both("CREATE TABLE nothing (id int PRIMARY KEY, v text)");
  pair.on_both("ALTER TABLE nothing REPLICA IDENTITY NOTHING");
  pair.on_both("CREATE TABLE keyless (id int, v text)");
  pair.start();
  for (const std::string table : {"nothing", "keyless"}) {
    SCOPED_TRACE(table);
    pair.on_master("INSERT INTO " + table + " VALUES (1, 'a'), (2, 'b')");
    EXPECT_THROW(pair.on_master("UPDATE " + table + " SET v = 'x'"), pqxx::sql_error);
    EXPECT_THROW(pair.on_master("DELETE FROM " + table), pqxx::sql_error);
    pair.wait_applied();
    EXPECT_EQ(query_value(pair.standby(), "SELECT count(*) FROM " + table), "2");
    EXPECT_TRUE(pair.same_content("public." + table));
  }
}

// pgoutput does not send generated columns, so this key never arrives: an answer, not a guess.
TEST(TableLifeRefusals, KeyThatIsNotSentStopsTheReceiver) {
  Pair pair;
  pair.on_both(
      "CREATE TABLE t (a int, v int, g int GENERATED ALWAYS AS (a * 2) STORED PRIMARY KEY)");
  pair.start();
  pair.on_master("INSERT INTO t VALUES (1, 1), (2, 2)");
  pair.wait_applied();
  pair.on_master("UPDATE t SET v = 5 WHERE a = 1");
  EXPECT_EQ(pair.receiver().wait(std::chrono::seconds(20)), 4);
  EXPECT_NE(pair.story().find("REPLICA IDENTITY"), std::string::npos) << pair.story();
}

}  // namespace
}  // namespace bitacora::harness
