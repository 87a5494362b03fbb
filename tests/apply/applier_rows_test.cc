// Every shape of row and table: what was done on the played master is what the standby holds, in
// binary and in text, in one trip and in two.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <vector>

#include "tests/apply/apply_fixture.h"

namespace bitacora::apply {
namespace {

struct Case {
  const char* name;
  const char* setup;                 // on both sides
  const char* master;                // then on the master
  const char* standby;               // and on the standby
  std::vector<std::string> before;   // one transaction
  std::vector<std::string> changes;  // and another one
  const char* content = "public.t";  // what must be equal
  const char* expected = nullptr;    // or what the standby must hold
  const char* toasted = nullptr;
};

struct Mode {
  const char* name;
  ValueFormat format;
  std::uint64_t one_trip_rows_max;
};
constexpr Mode kModes[] = {{"binary, one trip", ValueFormat::kBinary, 64},
                           {"binary, two trips", ValueFormat::kBinary, 0},
                           {"text, one trip", ValueFormat::kText, 64},
                           {"text, two trips", ValueFormat::kText, 0}};

class ApplierRows : public ApplyTest {
 protected:
  void run(const Case& c, const Mode& mode) const {
    clear();
    PlayedMaster played(master(), mode.format);
    on_both(played, c.setup);
    played.execute(c.master);
    on_standby(c.standby);
    if (c.toasted != nullptr) played.toast(c.toasted);
    ApplierOptions options;
    options.one_trip_rows_max = mode.one_trip_rows_max;
    ApplySession session(standby(), options);
    for (const auto& changes : {c.before, c.changes}) {
      played.transaction(changes);
      const auto taken = session.take(played.take());
      ASSERT_TRUE(taken.ok()) << one_line(taken.error());
    }
    EXPECT_EQ(progress(), lsn(played));
    if (c.expected != nullptr) {
      EXPECT_EQ(content(c.content), c.expected);
    } else {
      EXPECT_EQ(content(c.content), harness::table_content(master(), c.content));
    }
  }

  void run_all(const std::vector<Case>& cases) const {
    for (const Case& c : cases) {
      for (const Mode& mode : kModes) {
        SCOPED_TRACE(fmt::format("{}: {}", c.name, mode.name));
        run(c, mode);
      }
    }
  }
};

TEST_F(ApplierRows, AreWrittenFoundAndRemoved) {
  constexpr const char* kTable = "CREATE TABLE t (id int PRIMARY KEY, v text, n numeric)";
  const std::string rows = "INSERT INTO t VALUES (1, 'uno', 1.50), (2, NULL, NULL), (3, '', 'NaN')";
  const std::string long_text = "INSERT INTO t VALUES (1, repeat('largo', 1000), 1), (2, 'x', 2)";
  run_all({
      {"insert", kTable, "", "", {}, {rows}},
      {"update", kTable, "", "", {rows}, {"UPDATE t SET v = 'otro', n = NULL WHERE id <= 2"}},
      {"delete", kTable, "", "", {rows}, {"DELETE FROM t WHERE id = 2"}},
      {"insert, update and delete of one row",
       kTable,
       "",
       "",
       {},
       {rows, "UPDATE t SET v = 'b' WHERE id = 1", "DELETE FROM t WHERE id = 1"}},
      {"key change", kTable, "", "", {rows}, {"UPDATE t SET id = id + 10, v = 'k' WHERE id <> 2"}},
      {"key change to a key given up before",
       kTable,
       "",
       "",
       {rows},
       {"DELETE FROM t WHERE id = 1", "UPDATE t SET id = 1 WHERE id = 2"}},
      {"unchanged TOAST keeps the value",
       kTable,
       "",
       "",
       {long_text},
       {"UPDATE t SET n = 7 WHERE id = 1", "UPDATE t SET v = 'corto' WHERE id = 2"},
       "public.t",
       nullptr,
       "v"},
      {"unchanged TOAST and a key change",
       kTable,
       "",
       "",
       {long_text},
       {"UPDATE t SET id = 9 WHERE id = 1"},
       "public.t",
       nullptr,
       "v"},
      {"only the key is left to write",
       "CREATE TABLE t (id int PRIMARY KEY, v text)",
       "",
       "",
       {"INSERT INTO t VALUES (1, 'a')"},
       {"UPDATE t SET v = v WHERE id = 1"},
       "public.t",
       nullptr,
       "v"},
      {"replica identity of an index",
       "CREATE TABLE t (id int PRIMARY KEY, a int NOT NULL, b text NOT NULL, UNIQUE (b, a));"
       "ALTER TABLE t REPLICA IDENTITY USING INDEX t_b_a_key",
       "",
       "",
       {"INSERT INTO t VALUES (1, 1, 'x'), (2, 1, 'y')"},
       {"UPDATE t SET a = 5 WHERE id = 1", "UPDATE t SET id = 7 WHERE id = 2",
        "DELETE FROM t WHERE id = 1"}},
  });
}

TEST_F(ApplierRows, OfReplicaIdentityFullAreFoundWhole) {
  const auto table = [](const char* columns) {
    return fmt::format("CREATE TABLE t ({}); ALTER TABLE t REPLICA IDENTITY FULL", columns);
  };
  const auto plain = table("a int, b text");
  const auto odd = table("j json, p point, x xml, i int[]");
  const auto numbers = table("n numeric, f float8");
  const auto keyed = table("id int PRIMARY KEY, v text");
  const std::string twins = "INSERT INTO t VALUES (1, 'x'), (1, 'x'), (1, NULL), (NULL, NULL)";
  const std::string oddities =
      R"(INSERT INTO t VALUES ('{"a": 1}', '(1,2)', '<a/>', '{1,2}'), ('{"a":1}', NULL, '<a/>', '{}'))";
  run_all({
      {"one of two equal rows is updated",
       plain.c_str(),
       "",
       "",
       {twins},
       {"UPDATE t SET b = 'y' WHERE ctid = (SELECT min(ctid) FROM t WHERE b = 'x')"}},
      {"one of two equal rows is deleted",
       plain.c_str(),
       "",
       "",
       {twins},
       {"DELETE FROM t WHERE ctid = (SELECT min(ctid) FROM t WHERE b = 'x')"}},
      {"NULL is found",
       plain.c_str(),
       "",
       "",
       {twins},
       {"UPDATE t SET a = 7 WHERE a IS NULL", "DELETE FROM t WHERE a = 1 AND b IS NULL"}},
      {"types without equality",
       odd.c_str(),
       "",
       "",
       {oddities},
       {"UPDATE t SET i = '{3}' WHERE p IS NULL", "DELETE FROM t WHERE p IS NOT NULL"}},
      {"of equal rows the same byte for byte",
       numbers.c_str(),
       "",
       "",
       {"INSERT INTO t VALUES (1.0, 0), (1.00, 0), (1.000, '-0'), ('NaN', 'NaN')"},
       {"DELETE FROM t WHERE n::text = '1.00'", "UPDATE t SET f = 5 WHERE n::text = '1.000'",
        "DELETE FROM t WHERE n = 'NaN'"}},
      {"a key of the standby's finds it",
       keyed.c_str(),
       "",
       "",
       {"INSERT INTO t VALUES (1, 'a'), (2, 'b')"},
       {"UPDATE t SET id = 3 WHERE id = 1", "DELETE FROM t WHERE id = 2"}},
      {"unchanged TOAST",
       plain.c_str(),
       "",
       "",
       {"INSERT INTO t VALUES (1, repeat('largo', 1000)), (2, 'x')"},
       {"UPDATE t SET a = 5 WHERE a = 1"},
       "public.t",
       nullptr,
       "b"},
      {"no column",
       "CREATE TABLE t (); ALTER TABLE t REPLICA IDENTITY FULL",
       "",
       "",
       {"INSERT INTO t DEFAULT VALUES", "INSERT INTO t DEFAULT VALUES",
        "INSERT INTO t DEFAULT VALUES"},
       {"DELETE FROM t WHERE ctid = '(0,2)'"}},
  });
}

TEST_F(ApplierRows, OfUserDefinedTypes) {
  // The standby's types get other OIDs, and enum labels another sort order.
  constexpr const char* kOtherOids = "CREATE TABLE skew (a int); CREATE TABLE skew2 (a int)";
  constexpr const char* kMood =
      "CREATE TYPE mood AS ENUM ('triste', 'ok'); CREATE TABLE t (m mood PRIMARY KEY, v mood)";
  constexpr const char* kDomain =
      "CREATE DOMAIN code AS varchar(5) CHECK (VALUE <> ''); CREATE DOMAIN num AS int;"
      "CREATE TABLE t (id num PRIMARY KEY, c code)";
  constexpr const char* kDomainFull =
      "CREATE TYPE mood AS ENUM ('triste', 'ok'); CREATE DOMAIN humor AS mood;"
      "CREATE DOMAIN num AS numeric(9, 2); CREATE TABLE t (id num, h humor);"
      "ALTER TABLE t REPLICA IDENTITY FULL";
  const std::string moods = "INSERT INTO t VALUES ('ok', 'triste'), ('triste', NULL)";
  run_all({
      {"enum",
       "",
       kMood,
       "CREATE TABLE skew (a int); CREATE TYPE mood AS ENUM ('ok', 'triste');"
       "CREATE TABLE t (m mood PRIMARY KEY, v mood)",
       {moods},
       {"UPDATE t SET v = 'ok' WHERE m = 'ok'", "DELETE FROM t WHERE m = 'triste'"}},
      {"domain",
       "",
       kDomain,
       (std::string(kOtherOids) + ";" + kDomain).c_str(),
       {"INSERT INTO t VALUES (1, 'abc'), (2, NULL)"},
       {"UPDATE t SET c = 'x' WHERE id = 1", "UPDATE t SET id = 5 WHERE id = 2"}},
      {"domain over an enum, whole row",
       "",
       kDomainFull,
       kDomainFull,
       {"INSERT INTO t VALUES (1, 'ok'), (1, 'triste'), (2, NULL)"},
       {"UPDATE t SET id = 2 WHERE h::text = 'triste'", "DELETE FROM t WHERE h IS NULL"}},
  });
}

TEST_F(ApplierRows, OfArraysCompositesAndTypesWithoutSendFunction) {
  constexpr const char* kArrays =
      "CREATE TYPE mood AS ENUM ('triste', 'ok'); CREATE TYPE pair AS (a int, m mood);"
      "CREATE TABLE t (id int PRIMARY KEY, ms mood[], p pair, ps pair[], r int4range)";
  const std::string skewed = std::string("CREATE TABLE skew (a int);") + kArrays;
  run_all({
      {"arrays and composites of user-defined types",
       "",
       kArrays,
       skewed.c_str(),
       {R"sql(INSERT INTO t VALUES (1, '{ok,triste}', '(1,ok)', '{"(2,triste)"}', '[1,5)'))sql"},
       {"UPDATE t SET ms = '{}', r = 'empty' WHERE id = 1"}},
      {"a type without a send function comes as text",
       "CREATE TABLE t (id int PRIMARY KEY, a aclitem)",
       "",
       "",
       {"INSERT INTO t VALUES (1, NULL), (2, 'postgres=r/postgres')"},
       {"UPDATE t SET a = 'postgres=w/postgres' WHERE id = 1", "DELETE FROM t WHERE id = 2"}},
      {"keys that are arrays and ranges",
       "CREATE TABLE t (a int[], r int4range, v text, PRIMARY KEY (a, r))",
       "",
       "",
       {"INSERT INTO t VALUES ('{1,2}', '[1,2)', 'a'), ('{}', 'empty', 'b')"},
       {"UPDATE t SET v = 'c' WHERE v = 'a'", "DELETE FROM t WHERE v = 'b'"}},
  });
}

TEST_F(ApplierRows, OfExtensionTypesAreFoundByTheirOwnEquality) {
  constexpr const char* kExtensions = "CREATE EXTENSION citext; CREATE EXTENSION hstore;";
  const auto keyed = std::string(kExtensions) +
                     "CREATE TABLE t (c citext, h hstore, v text, "
                     "PRIMARY KEY (c, h))";
  const auto whole = std::string(kExtensions) +
                     "CREATE TABLE t (c citext, h hstore); ALTER TABLE t REPLICA IDENTITY FULL";
  run_all({
      {"key",
       "",
       keyed.c_str(),
       ("CREATE TABLE skew (a int);" + keyed).c_str(),
       {"INSERT INTO t VALUES ('Uno', 'a=>1', 'x'), ('dos', 'a=>NULL', 'y')"},
       {"UPDATE t SET v = 'z' WHERE c = 'uno'", "UPDATE t SET c = 'DOS' WHERE c = 'dos'",
        "DELETE FROM t WHERE c = 'uno'"}},
      {"whole row",
       "",
       whole.c_str(),
       ("CREATE TABLE skew (a int);" + whole).c_str(),
       {"INSERT INTO t VALUES ('Uno', 'a=>1'), ('uno', 'a=>1'), (NULL, NULL)"},
       {"DELETE FROM t WHERE c::text = 'uno'", "UPDATE t SET c = 'x' WHERE c IS NULL"}},
  });
}

TEST_F(ApplierRows, OfNamesThatNeedQuoting) {
  run_all({
      {"quoted, upper case, reserved, non-ASCII",
       R"(DROP SCHEMA IF EXISTS "MiCasa" CASCADE; CREATE SCHEMA "MiCasa"; CREATE TABLE "MiCasa"."Año"
          ("select" int PRIMARY KEY, "Ñandú ""x""" text, "$1" int, "a'b" text))",
       "",
       "",
       {R"(INSERT INTO "MiCasa"."Año" VALUES (1, 'a', 1, 'b'), (2, 'a', 1, 'b'))"},
       {R"(UPDATE "MiCasa"."Año" SET "$1" = 2, "a'b" = 'c' WHERE "select" = 1)",
        R"(DELETE FROM "MiCasa"."Año" WHERE "select" = 2)"},
       R"("MiCasa"."Año")"},
  });
}

TEST_F(ApplierRows, OfColumnsTheStandbyFillsIn) {
  run_all({
      {"generated",
       "CREATE TABLE t (id int PRIMARY KEY, a int, twice int GENERATED ALWAYS AS (a * 2) STORED)",
       "",
       "",
       {"INSERT INTO t VALUES (1, 5), (2, 6)"},
       {"UPDATE t SET a = 7 WHERE id = 1"}},
      {"GENERATED ALWAYS identity as key",
       "CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text)",
       "",
       "",
       {"INSERT INTO t (v) VALUES ('a'), ('b'), ('c')"},
       {"UPDATE t SET v = 'x' WHERE id = 1", "UPDATE t SET id = DEFAULT WHERE id = 2",
        "DELETE FROM t WHERE id = 3"}},
      {"GENERATED ALWAYS identity beside the key",
       "CREATE TABLE t (id int PRIMARY KEY, s int GENERATED ALWAYS AS IDENTITY, big text)",
       "",
       "ALTER TABLE t ADD note text DEFAULT 'nota'",
       {"INSERT INTO t VALUES (1, DEFAULT, repeat('x', 5000)), (2, DEFAULT, 'y')"},
       {"UPDATE t SET s = DEFAULT WHERE id = 1", "UPDATE t SET id = 5 WHERE id = 2"},
       "(SELECT id, s, big FROM public.t)",
       nullptr,
       "big"},
      {"GENERATED ALWAYS identity, whole row",
       "CREATE TABLE t (s int GENERATED ALWAYS AS IDENTITY, v text);"
       "ALTER TABLE t REPLICA IDENTITY FULL",
       "",
       "",
       {"INSERT INTO t (v) VALUES ('a'), ('b')"},
       {"UPDATE t SET v = 'x' WHERE s = 1", "UPDATE t SET s = DEFAULT WHERE s = 2"}},
      {"what only the standby has survives a replacement",
       "CREATE TABLE t (id int PRIMARY KEY, s int GENERATED ALWAYS AS IDENTITY)",
       "",
       "ALTER TABLE t ADD own int GENERATED BY DEFAULT AS IDENTITY (START 70),"
       " ADD n int GENERATED ALWAYS AS (id + 1) STORED",
       {"INSERT INTO t VALUES (1, DEFAULT)"},
       {"UPDATE t SET s = DEFAULT WHERE id = 1"},
       "public.t",
       "(1,2,70,2)"},
      {"extra columns with defaults",
       "CREATE TABLE t (id int PRIMARY KEY, v text)",
       "",
       "ALTER TABLE t ADD a int NOT NULL DEFAULT 7, ADD b int GENERATED BY DEFAULT AS IDENTITY",
       {"INSERT INTO t VALUES (1, 'a'), (2, 'b')"},
       {"UPDATE t SET v = 'x' WHERE id = 2"},
       "public.t",
       "(1,a,7,1)\n(2,x,7,2)"},
  });
}

TEST_F(ApplierRows, OfTablesThatDifferOnTheStandby) {
  run_all({
      {"other column order, and a dropped column",
       "",
       "CREATE TABLE t (id int PRIMARY KEY, a text, b int)",
       "CREATE TABLE t (gone int, b int, id int PRIMARY KEY, a text); ALTER TABLE t DROP gone",
       {"INSERT INTO t VALUES (1, 'a', 5), (2, 'b', 6)"},
       {"UPDATE t SET a = 'x', b = 9 WHERE id = 2", "DELETE FROM t WHERE id = 1"},
       "(SELECT id, a, b FROM public.t)"},
      {"wider and other types, in the key too",
       "",
       "CREATE TABLE t (id int PRIMARY KEY, n text, at timestamp, c varchar(10))",
       "CREATE TABLE t (id bigint PRIMARY KEY, n int, at timestamptz, c char(5))",
       {"INSERT INTO t VALUES (1, '41', '2024-06-11 10:00', 'ab'), (2, '7', NULL, NULL)"},
       {"UPDATE t SET n = '42' WHERE id = 1", "UPDATE t SET id = 3 WHERE id = 2"},
       "public.t",
       "(1,42,\"2024-06-11 10:00:00+00\",\"ab   \")\n(3,7,,)"},
      {"other types, whole row",
       "",
       "CREATE TABLE t (id int, n text); ALTER TABLE t REPLICA IDENTITY FULL",
       "CREATE TABLE t (id bigint, n int)",
       {"INSERT INTO t VALUES (1, '1'), (2, NULL), (3, '3')"},
       {"UPDATE t SET n = '42' WHERE id = 2", "DELETE FROM t WHERE id = 1"},
       "public.t",
       "(2,42)\n(3,3)"},
      {"partitioned, and a row moves between partitions",
       "",
       "CREATE TABLE t (id int PRIMARY KEY, v text)",
       "CREATE TABLE t (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);"
       "CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10);"
       "CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (10) TO (100)",
       {"INSERT INTO t VALUES (1, 'a'), (2, 'b'), (20, 'c')"},
       {"UPDATE t SET id = 50 WHERE id = 1", "DELETE FROM t WHERE id = 20"}},
      {"partitioned, whole row",
       "",
       "CREATE TABLE t (id int, v text); ALTER TABLE t REPLICA IDENTITY FULL",
       "CREATE TABLE t (id int, v text) PARTITION BY RANGE (id);"
       "CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10);"
       "CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (10) TO (100)",
       {"INSERT INTO t VALUES (1, 'a'), (20, 'a'), (20, 'a')"},
       {"UPDATE t SET id = 5 WHERE ctid = '(0,3)'", "DELETE FROM t WHERE id = 1"}},
      {"rows of inheritance children are theirs",
       "CREATE TABLE t (id int PRIMARY KEY, v text)",
       "",
       "CREATE TABLE child () INHERITS (t); INSERT INTO child VALUES (1, 'suyo')",
       {"INSERT INTO t VALUES (1, 'a'), (2, 'b')"},
       {"UPDATE t SET v = 'x' WHERE id = 1", "DELETE FROM t WHERE id = 2"},
       "public.t",
       "(1,suyo)\n(1,x)"},
  });
}

}  // namespace
}  // namespace bitacora::apply
