#include "apply/part_writer.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "tests/apply/standby_fixture.h"
#include "tests/postgres/servers.h"

namespace bitacora::apply {
namespace {

constexpr const char* kSubscription = "prueba";

class PartWriterTest : public StandbyFixture {
 protected:
  PartWriterTest() : PartWriterTest(cluster_of(harness::available_servers().rbegin()->first)) {}
  explicit PartWriterTest(const engine::ThrowawayCluster& cluster)
      : StandbyFixture(cluster), writer_(session(), kSubscription) {
    EXPECT_TRUE(succeeded(ensure_copied_tables(session())));
  }

  static CopyTarget target(std::vector<std::string> columns, bool binary = false,
                           bool whole = false) {
    return {.schema = "public",
            .name = "t",
            .rows = {R"("public"."t")"},
            .mingled = false,
            .columns = std::move(columns),
            .constants = {},
            .binary = binary,
            .whole = whole};
  }

  PartWriter& writer() { return writer_; }

  // In pieces of `piece_bytes`.
  Result<void> write(const std::string& bytes, std::size_t piece_bytes = 7) {
    const std::string_view all = bytes;
    for (std::size_t at = 0; at < all.size(); at += piece_bytes)
      RETURN_IF_ERROR(writer_.write(all.substr(at, piece_bytes)));
    return {};
  }

  Result<void> copy(const CopyTarget& to, const std::string& bytes, std::uint64_t rows,
                    const CopiedPart& part = {}) {
    RETURN_IF_ERROR(writer_.begin(to, part));
    RETURN_IF_ERROR(write(bytes));
    return writer_.finish(rows, bytes.size());
  }

  std::string rows(const std::string& table = "t") const {
    return value("SELECT count(*) FROM " + table);
  }
  // piece, pages, rows, bytes; one a line
  std::string parts() const {
    return value(
        "SELECT string_agg(concat_ws(' ', subscription, schema_name, table_name, piece,"
        " begin_page, end_page, rows, bytes), E'\\n' ORDER BY piece, begin_page)"
        " FROM bitacora.copied_parts");
  }
  void expect_nothing_left() {
    EXPECT_EQ(PQtransactionStatus(session().connection()), PQTRANS_IDLE);
    EXPECT_EQ(rows(), "0");
    EXPECT_EQ(parts(), "");
    EXPECT_TRUE(succeeded(copy(target({"a"}), "1\n", 1))) << "the writer is of no use any more";
    EXPECT_EQ(rows(), "1");
  }

 private:
  PartWriter writer_;
};

TEST_F(PartWriterTest, PartsAreCommittedWithTheirRow) {
  execute(R"(CREATE TABLE m (a int, "Ñ" text, b bytea, j jsonb, n numeric[]);
             INSERT INTO m SELECT i, repeat(E'\\t\n"' || i, i), decode('00ff', 'hex'),
               jsonb_build_object('i', i), ARRAY[i, NULL]::numeric[] FROM generate_series(1, 99) i;
             INSERT INTO m VALUES (NULL, NULL, NULL, NULL, NULL), (0, '', '', '{}', '{}');
             CREATE TABLE t (n numeric[], a int, "Ñ" text, j jsonb, b bytea, own int DEFAULT 3))");
  const std::vector<std::string> columns{R"("a")", R"("Ñ")", R"("b")", R"("j")", R"("n")"};
  for (const bool binary : {true, false}) {
    SCOPED_TRACE(binary ? "binary" : "text");
    execute("TRUNCATE t, bitacora.copied_parts");
    const auto bytes = copied_out(binary ? "COPY public.m TO STDOUT WITH (FORMAT binary)"
                                         : "COPY public.m TO STDOUT");
    ASSERT_TRUE(succeeded(copy(target(columns, binary), bytes, 101, {4294967295, 5, 9})));
    EXPECT_EQ(value(R"(SELECT count(*) FROM (SELECT a, "Ñ", b, j, n, 3 FROM m EXCEPT ALL
                       SELECT a, "Ñ", b, j, n, own FROM t) missing)"),
              "0");
    EXPECT_EQ(rows(), "101");
    EXPECT_EQ(parts(), fmt::format("prueba public t 4294967295 5 9 101 {}", bytes.size()));
    EXPECT_EQ(PQtransactionStatus(session().connection()), PQTRANS_IDLE);
  }
}

TEST_F(PartWriterTest, PartsFollowEachOther) {
  execute("CREATE TABLE t (a int)");
  ASSERT_TRUE(succeeded(copy(target({"a"}), "1\n2\n", 2, {1, 0, 5})));
  ASSERT_TRUE(succeeded(copy(target({"a"}), "", 0, {1, 5, 9})));
  ASSERT_TRUE(succeeded(copy(target({"a"}), "3\n", 1, {1, 9, 0})));
  EXPECT_EQ(rows(), "3");
  EXPECT_EQ(parts(),
            "prueba public t 1 0 5 2 4\nprueba public t 1 5 9 0 0\nprueba public t 1 9 0 1 2");
}

TEST_F(PartWriterTest, TheSamePartIsNotWrittenTwice) {
  execute("CREATE TABLE t (a int)");
  ASSERT_TRUE(succeeded(copy(target({"a"}), "1\n", 1)));
  EXPECT_TRUE(refused(copy(target({"a"}), "1\n", 1), {"copied_parts_pkey"}));
  EXPECT_EQ(rows(), "1");
}

TEST_F(PartWriterTest, AnotherNumberOfRowsIsNoPart) {
  execute("CREATE TABLE t (a int)");
  for (const std::uint64_t said : {1u, 3u}) {
    const auto taken = copy(target({"a"}), "1\n2\n", said);
    EXPECT_TRUE(refused(taken, {R"("public"."t")", "2 rows", fmt::format("has {}", said)}));
    EXPECT_FALSE(taken.error().heals());
    EXPECT_EQ(rows(), "0");
  }
  expect_nothing_left();
}

TEST_F(PartWriterTest, WhatTheStandbyRefusesIsSaidWithTheRow) {
  execute("CREATE TABLE t (a int NOT NULL CHECK (a <> 7))");
  struct Case {
    const char* name;
    std::string bytes;
    bool binary;
    std::vector<std::string> words;
  };
  const std::string begin("PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0", 19);
  for (const Case& c : {
           Case{"no number",
                "1\n2\nx\n4\n",
                false,
                {"cannot copy into public.t", "invalid input syntax", "COPY t, line 3",
                 "column a: \"x\""}},
           Case{"a check", "1\n7\n", false, {"t_a_check", "COPY t, line 2"}},
           Case{"too many columns", "1\n2\t3\n", false, {"extra data", "line 2: \"2\t3\""}},
           Case{"a null", "\\N\n", false, {"null value in column \"a\"", "line 1"}},
           Case{"binary cut off",
                begin + std::string("\0\1\0\0\0\4\0\0", 8),
                true,
                {"unexpected EOF", "COPY t, line 1"}},
           Case{"a value of another width",
                begin + std::string("\0\1\0\0\0\1\0\xff\xff", 9),
                true,
                {"COPY t, line 1, column a"}},
       }) {
    SCOPED_TRACE(c.name);
    const auto refusal = copy(target({"a"}, c.binary), c.bytes, 1);
    EXPECT_TRUE(refused(refusal, c.words));
    EXPECT_EQ(refusal.error().code, ErrorCode::kStandby);
    EXPECT_FALSE(refusal.error().heals());
    execute("TRUNCATE t, bitacora.copied_parts");
  }
  expect_nothing_left();
}

// The standby gives up at the first row; what is sent afterwards must not block or confuse.
TEST_F(PartWriterTest, ARefusalEarlyInALargePartIsSaidAtItsEnd) {
  execute("CREATE TABLE t (a int)");
  ASSERT_TRUE(succeeded(writer().begin(target({"a"}), {})));
  const std::string many(1u << 20, '\n');
  ASSERT_TRUE(succeeded(writer().write("x\n")));
  for (int i = 0; i < 30; ++i) ASSERT_TRUE(succeeded(writer().write(many)));
  EXPECT_TRUE(refused(writer().finish(1, 2), {"COPY t, line 1, column a: \"x\""}));
  expect_nothing_left();
}

TEST_F(PartWriterTest, RefusesWhatCannotBegin) {
  execute("CREATE TABLE t (a int)");
  EXPECT_TRUE(refused(writer().begin(target({"b"}), {}), {"\"b\"", "does not exist"}));
  auto nowhere = target({"a"}, false, true);
  nowhere.rows.table = "public.nowhere";
  EXPECT_TRUE(refused(writer().begin(nowhere, {}), {"public.nowhere"}));
  execute("CREATE VIEW v AS SELECT 1 AS a");
  nowhere.rows.table = "public.v";
  EXPECT_TRUE(refused(writer().begin(nowhere, {}), {"public.v"}));
  expect_nothing_left();
}

TEST_F(PartWriterTest, AbandonedAnywhereItLeavesNothing) {
  execute("CREATE TABLE t (a int)");
  writer().abandon();
  for (const char* bytes : {"", "1\n2", "1\n2\n", "x\n"}) {
    SCOPED_TRACE(bytes);
    ASSERT_TRUE(succeeded(writer().begin(target({"a"}), {})));
    ASSERT_TRUE(succeeded(write(bytes)));
    writer().abandon();
    EXPECT_EQ(PQtransactionStatus(session().connection()), PQTRANS_IDLE);
  }
  ASSERT_TRUE(succeeded(writer().begin(target({}), {})));
  ASSERT_TRUE(succeeded(writer().write("\n\n")));
  writer().abandon();
  expect_nothing_left();
}

TEST_F(PartWriterTest, ALostConnectionHeals) {
  execute("CREATE TABLE t (a int)");
  ASSERT_TRUE(succeeded(writer().begin(target({"a"}), {})));
  ASSERT_TRUE(succeeded(writer().write("1\n")));
  execute("SELECT pg_terminate_backend(" + backend_pid() + ", 10000)");
  const std::string many(1u << 20, '\n');
  Result<void> outcome;
  for (int i = 0; outcome.ok() && i < 100; ++i) outcome = writer().write(many);
  if (outcome.ok()) outcome = writer().finish(1, 2);
  ASSERT_FALSE(outcome.ok());
  EXPECT_EQ(outcome.error().code, ErrorCode::kStandby);
  EXPECT_TRUE(outcome.error().heals()) << one_line(outcome.error());
  EXPECT_TRUE(refused(writer().begin(target({"a"}), {}), {}));
  writer().abandon();
  EXPECT_EQ(rows(), "0");
  EXPECT_EQ(parts(), "");
}

TEST_F(PartWriterTest, TheRoleNeedsNoMoreThanInsertAndDelete) {
  const auto role = limited_role();
  execute(
      fmt::format("CREATE TABLE t (a int); GRANT USAGE ON SCHEMA public, bitacora TO {0};"
                  "GRANT INSERT, DELETE ON t TO {0}; GRANT INSERT ON bitacora.copied_parts TO {0}",
                  role));
  auto limited = connect(role);
  PartWriter writer(limited, kSubscription);
  for (const bool whole : {false, true}) {
    ASSERT_TRUE(succeeded(writer.begin(target({"a"}, false, whole), {whole ? 1u : 0u})));
    ASSERT_TRUE(succeeded(writer.write("1\n")));
    ASSERT_TRUE(succeeded(writer.finish(1, 2)));
  }
  EXPECT_EQ(rows(), "1") << "the whole table was emptied";
  execute(fmt::format("REVOKE INSERT ON t FROM {}", role));
  EXPECT_TRUE(refused(writer.begin(target({"a"}), {}), {"permission denied for table t"}));
}

// Each of PostgreSQL's versions.
class EveryPartWriter : public PartWriterTest, public testing::WithParamInterface<int> {
 protected:
  EveryPartWriter() : PartWriterTest(cluster_of(usable_version())) {}

  void SetUp() override {
    if (usable_version() != GetParam()) GTEST_SKIP() << harness::why_missing(GetParam());
    execute("CREATE EXTENSION IF NOT EXISTS pg_visibility");
  }

  std::string frozen(const std::string& table = "t") const {
    return value(fmt::format("SELECT bool_and(all_frozen) FROM pg_visibility_map('{}')", table));
  }

 private:
  static int usable_version() {
    const auto servers = harness::available_servers();
    return servers.contains(GetParam()) ? GetParam() : servers.begin()->first;
  }
};

TEST_P(EveryPartWriter, AWholeTableIsEmptiedAndFrozen) {
  execute("CREATE TABLE t (a int); INSERT INTO t VALUES (99)");
  ASSERT_TRUE(succeeded(copy(target({"a"}), "1\n", 1)));
  EXPECT_EQ(frozen(), "f") << "the check sees no difference";
  ASSERT_TRUE(succeeded(copy(target({"a"}, false, true), "1\n2\n", 2, {1})));
  EXPECT_EQ(value("SELECT string_agg(a::text, ' ') FROM t"), "1 2");
  EXPECT_EQ(frozen(), "t");
}

TEST_P(EveryPartWriter, ASmallTableIsFrozenOnlyWhenItHasToBeEmptied) {
  auto small = target({"a"}, false, true);
  small.small = true;
  execute("CREATE TABLE t (a int)");
  ASSERT_TRUE(succeeded(copy(small, "1\n", 1)));
  EXPECT_EQ(frozen(), "f");
  ASSERT_TRUE(succeeded(copy(small, "2\n", 1, {1})));
  EXPECT_EQ(value("SELECT string_agg(a::text, ' ') FROM t"), "2");
  EXPECT_EQ(frozen(), "t");
}

TEST_P(EveryPartWriter, AWholeTableThatCannotBeTruncatedIsDeletedFrom) {
  execute(
      "CREATE TABLE t (a int PRIMARY KEY); CREATE TABLE r (a int REFERENCES t);"
      "INSERT INTO t VALUES (99)");
  ASSERT_TRUE(succeeded(copy(target({"a"}, false, true), "1\n", 1)));
  EXPECT_EQ(value("SELECT string_agg(a::text, ' ') FROM t"), "1");
}

TEST_P(EveryPartWriter, AWholeTableThatCannotBeCopiedKeepsItsRows) {
  execute("CREATE TABLE t (a int); INSERT INTO t VALUES (99)");
  EXPECT_TRUE(refused(copy(target({"a"}, false, true), "1\nx\n", 2), {"line 2"}));
  EXPECT_EQ(value("SELECT a FROM t"), "99");
}

TEST_P(EveryPartWriter, WholeTablesThatCannotBeTruncatedOrFrozen) {
  struct Case {
    const char* name;
    const char* make;
    const char* heap;
    const char* frozen;
  };
  for (const Case& c : {
           Case{"referenced by a foreign key",
                "CREATE TABLE t (a int PRIMARY KEY); CREATE TABLE r (a int REFERENCES t)", "t",
                "f"},
           Case{"partitioned",
                "CREATE TABLE t (a int) PARTITION BY LIST (a);"
                "CREATE TABLE p PARTITION OF t DEFAULT; INSERT INTO t VALUES (9)",
                "p", "f"},
           Case{"with a child that keeps its rows",
                "CREATE TABLE t (a int); CREATE TABLE c () INHERITS (t); INSERT INTO c VALUES (3)",
                "t", "t"},
       }) {
    SCOPED_TRACE(c.name);
    execute(
        "SET client_min_messages = error; DROP TABLE IF EXISTS t, r, c CASCADE;"
        "TRUNCATE bitacora.copied_parts");
    execute(c.make);
    ASSERT_TRUE(succeeded(copy(target({"a"}, false, true), "1\n2\n", 2)));
    EXPECT_EQ(value("SELECT string_agg(a::text, ' ' ORDER BY a) FROM t"),
              std::string(c.name).find("child") == std::string::npos ? "1 2" : "1 2 3");
    EXPECT_EQ(frozen(c.heap), c.frozen);
  }
}

TEST_P(EveryPartWriter, RowsWithoutColumns) {
  execute("CREATE TABLE m (); INSERT INTO m SELECT FROM generate_series(1, 5)");
  for (const char* columns : {"", "own int DEFAULT 3", "i int GENERATED ALWAYS AS IDENTITY",
                              "g int GENERATED ALWAYS AS (1) STORED"}) {
    for (const bool binary : {false, true}) {
      SCOPED_TRACE(fmt::format("({}) {}", columns, binary ? "binary" : "text"));
      execute(
          fmt::format("DROP TABLE IF EXISTS t; CREATE TABLE t ({});"
                      "TRUNCATE bitacora.copied_parts",
                      columns));
      const auto bytes = copied_out(binary ? "COPY public.m TO STDOUT WITH (FORMAT binary)"
                                           : "COPY public.m TO STDOUT");
      EXPECT_TRUE(refused(copy(target({}, binary), bytes, 4), {"5 rows", "has 4"}));
      ASSERT_TRUE(succeeded(copy(target({}, binary), bytes, 5)));
      EXPECT_EQ(rows(), "5");
      ASSERT_TRUE(succeeded(copy(target({}, binary, true), bytes, 5, {1})));
      EXPECT_EQ(rows(), "5") << "emptied";
    }
  }
}

TEST_P(EveryPartWriter, ColumnsThatAreComputedOrCounted) {
  execute(
      "CREATE TABLE t (i int GENERATED ALWAYS AS IDENTITY, a int,"
      " g int GENERATED ALWAYS AS (a * 2) STORED)");
  ASSERT_TRUE(succeeded(copy(target({"a", "i"}), "1\t70\n2\t71\n", 2)));
  EXPECT_EQ(value("SELECT string_agg(concat_ws(' ', i, a, g), ', ' ORDER BY i) FROM t"),
            "70 1 2, 71 2 4");
}

TEST_P(EveryPartWriter, AsManyColumnsAsThereCanBe) {
  constexpr int kColumnsMax = 1600;
  std::vector<std::string> columns;
  for (int i = 0; i < kColumnsMax; ++i) columns.push_back(fmt::format("\"c{}\"", i));
  execute(fmt::format("CREATE TABLE t ({} bool)", fmt::join(columns, " bool, ")));
  execute("INSERT INTO t VALUES (true)");
  for (const bool binary : {false, true}) {
    const auto bytes = copied_out(binary ? "COPY public.t TO STDOUT WITH (FORMAT binary)"
                                         : "COPY public.t TO STDOUT");
    ASSERT_TRUE(succeeded(copy(target(columns, binary), bytes, 1, {binary ? 1u : 0u})));
    execute("DELETE FROM t WHERE ctid IN (SELECT min(ctid) FROM t)");
    EXPECT_EQ(rows(), "1");
    EXPECT_EQ(value("SELECT c0 FROM t"), "t");
  }
}

// ON INSERT triggers and foreign keys are those of the master's; ALWAYS ones are the standby's own.
TEST_P(EveryPartWriter, OrdinaryTriggersAndForeignKeysAreSilent) {
  execute(R"(CREATE TABLE r (a int PRIMARY KEY); CREATE TABLE t (a int REFERENCES r);
             CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS
               $$ BEGIN RAISE EXCEPTION 'fired'; END $$;
             CREATE TRIGGER ordinary BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION stop())");
  ASSERT_TRUE(succeeded(copy(target({"a"}, false, true), "1\n", 1)));
  EXPECT_EQ(rows(), "1");
  execute("ALTER TABLE t ENABLE ALWAYS TRIGGER ordinary");
  EXPECT_TRUE(refused(copy(target({"a"}), "1\n", 1), {"fired"}));
}

INSTANTIATE_TEST_SUITE_P(PostgreSql, EveryPartWriter,
                         testing::ValuesIn(harness::kSupportedVersions),
                         testing::PrintToStringParamName());

TEST_F(PartWriterTest, ConstantsAndTheRowsOfOthers) {
  execute(
      "CREATE TABLE t (region text, a int, n int DEFAULT 3);"
      "INSERT INTO t VALUES ('us', 1), ('eu', 1), ('eu', 2)");
  auto to = target({R"("a")", R"("region")"}, false, true);
  to.rows.condition = "\"region\" = 'eu'";
  to.constants = {"eu"};
  ASSERT_TRUE(succeeded(copy(to, "7\n8\n", 2)));
  EXPECT_EQ(value("SELECT string_agg(concat_ws(' ', region, a, n), ', ' ORDER BY a) FROM t"),
            "us 1 3, eu 7 3, eu 8 3");
}

TEST_F(PartWriterTest, NothingIsEmptiedWhereNobodyKnowsWhoseRowsAre) {
  execute("CREATE TABLE t (a int); INSERT INTO t VALUES (1)");
  auto to = target({R"("a")"}, false, true);
  to.mingled = true;
  ASSERT_TRUE(succeeded(copy(to, "7\n", 1)));
  EXPECT_EQ(rows(), "2");
}

}  // namespace
}  // namespace bitacora::apply
