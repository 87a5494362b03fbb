// A first copy that cannot be done says so in one line, and leaves nothing half made; a row that
// the standby refuses is named, and the copy goes on when somebody has mended that.
#include <gtest/gtest.h>

#include <fstream>
#include <ostream>

#include <fmt/format.h>

#include "tests/engine/refusal.h"
#include "tests/postgres/database.h"
#include "tests/postgres/servers.h"

namespace bitacora::harness {
namespace {

const Changes kCopies{{"--no-copy", ""}};
const Changes kMakesSchema{{"--no-copy", ""}, {"--create-schema", "true"}};

PairOptions copying(std::vector<std::string> receiver_arguments = {},
                    std::vector<std::string> sender_arguments = {}) {
  PairOptions options;
  options.copy = true;
  options.receiver_arguments = std::move(receiver_arguments);
  options.sender_arguments = std::move(sender_arguments);
  return options;
}

engine::ThrowawayCluster server(int version, const std::string& role) {
  engine::ClusterOptions options;
  options.bin_dir = available_servers().at(version);
  return engine::ThrowawayCluster::make(role + std::to_string(version), options).value();
}

// What is not the server's own: relations, types, functions, schemas, extensions, by name.
std::string objects(const std::string& conninfo) {
  return query_value(conninfo, R"(
      WITH ours AS (SELECT oid, nspname FROM pg_namespace
                     WHERE nspname <> 'information_schema' AND nspname !~ '^pg_')
      SELECT coalesce(string_agg(name, ' ' ORDER BY name), '') FROM (
        SELECT nspname AS name FROM ours WHERE nspname <> 'public' UNION ALL
        SELECT nspname || '.' || relname FROM pg_class JOIN ours ON ours.oid = relnamespace UNION ALL
        SELECT nspname || '.' || proname FROM pg_proc JOIN ours ON ours.oid = pronamespace UNION ALL
        SELECT nspname || '.' || typname FROM pg_type JOIN ours ON ours.oid = typnamespace
         WHERE typrelid = 0 AND typelem = 0 UNION ALL
        SELECT extname FROM pg_extension WHERE extname <> 'plpgsql') AS all_of)");
}

void expect_nothing_begun(const Pair& pair, const std::string& objects_before) {
  EXPECT_EQ(objects(pair.standby()), objects_before);
  EXPECT_TRUE(eventually([&] { return registered_receivers(pair).empty(); }))
      << registered_receivers(pair);
  // Of the copy: its session, its slot.
  EXPECT_TRUE(eventually([&] {
    return query_value(pair.master(),
                       "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                       "AND application_name = 'bitacora copy'") == "0";
  }));
  EXPECT_EQ(query_value(pair.master(), "SELECT count(*) FROM pg_replication_slots WHERE temporary"),
            "0");
}

void expect_refused_and_nothing_begun(const Pair& pair, const Refusal& refusal) {
  const auto before = objects(pair.standby());
  expect_receiver_refused(pair, refusal);
  expect_nothing_begun(pair, before);
}

// adminpack went with PostgreSQL 17.
TEST(CopyRefused, TheStandbyLacksAnExtension) {
  if (!available_servers().contains(18)) GTEST_SKIP() << why_missing(18);
  auto standby = server(18, "standby");
  Pair pair(shared_master(), standby);
  pair.on_master(
      "CREATE EXTENSION adminpack; CREATE TABLE plain (id int PRIMARY KEY); INSERT INTO plain "
      "VALUES (1); CREATE TABLE t (id int PRIMARY KEY, gone bool DEFAULT "
      "pg_catalog.pg_file_unlink('x'))");
  pair.start_sender();
  pair.wait_for_slot();
  expect_refused_and_nothing_begun(
      pair, {"everything", kMakesSchema, 5, {"adminpack", "install its package", "leave out"}});
  auto one_table = kMakesSchema;
  one_table["--tables"] = "public.t";
  expect_refused_and_nothing_begun(
      pair, {"a table that needs it", one_table, 5, {"adminpack", "install its package"}});
  one_table["--tables"] = "public.plain";
  Process receiver(receiver_command(pair, one_table));
  pair.wait_applied();
  EXPECT_TRUE(pair.same_content("public.plain")) << receiver.error_output();
}

TEST(CopyRefused, NoProgramsForTheMastersVersion) {
  if (!available_servers().contains(18)) GTEST_SKIP() << why_missing(18);
  auto master = server(18, "master");
  Pair pair(master, shared_standby());
  pair.on_master("CREATE TABLE t (id int PRIMARY KEY)");
  pair.start_sender();
  pair.wait_for_slot();
  expect_refused_and_nothing_begun(
      pair, {"pg_dump 15 of a master 18",
             kMakesSchema,
             2,
             {"PostgreSQL 18", "15", "postgresql-client-18", "sender's host", "--pg-bin-dir"}});
}

TEST(CopyRefused, NoProgramsWhereTheyAreSaidToBe) {
  Pair pair(copying({}, {"--pg-bin-dir", "/nowhere"}));
  pair.on_master("CREATE TABLE t (id int PRIMARY KEY)");
  pair.start_sender();
  pair.wait_for_slot();
  expect_refused_and_nothing_begun(
      pair, {"nowhere", kMakesSchema, 2, {"/nowhere", "no pg_dump", "--pg-bin-dir"}});
  auto dry = kMakesSchema;
  dry["--dry-run"] = "true";
  expect_refused_and_nothing_begun(pair, {"nowhere, dry", dry, 2, {"/nowhere", "--pg-bin-dir"}});
}

TEST(CopyRefused, NoDirectoryForTheDump) {
  PairOptions options = copying();
  options.environment = {"TMPDIR=/nowhere"};
  Pair pair(options);
  pair.on_master("CREATE TABLE t (id int PRIMARY KEY)");
  pair.start_sender();
  pair.wait_for_slot();
  expect_refused_and_nothing_begun(pair, {"no TMPDIR", kMakesSchema, 2, {"/nowhere", "TMPDIR"}});
}

TEST(CopyDryRun, PrintsAndMakesNothing) {
  Pair pair(copying());
  pair.on_master(
      "CREATE SCHEMA shop; CREATE TABLE shop.t (id serial PRIMARY KEY, v text UNIQUE); CREATE "
      "TABLE "
      "here (id int)");
  // And a table that the master does not have.
  pair.on_standby("CREATE TABLE here (id int); CREATE TABLE of_the_standby (id int)");
  pair.start_sender();
  ASSERT_TRUE(
      eventually([&] { return pair.story().find("event=sender_ready") != std::string::npos; }));
  const auto before = objects(pair.standby());
  auto dry = kMakesSchema;
  dry["--dry-run"] = "true";
  const auto printed = run(receiver_command(pair, dry));
  EXPECT_EQ(printed.exit_code, 0) << printed.error_output;
  for (const char* words :
       {"CREATE SCHEMA shop", "CREATE TABLE shop.t", "CREATE SEQUENCE shop.t_id",
        "ADD CONSTRAINT t_v_key UNIQUE", "PRIMARY KEY"}) {
    EXPECT_NE(printed.output.find(words), std::string::npos) << words << "\n" << printed.output;
  }
  EXPECT_EQ(printed.output.find("CREATE TABLE public.here"), std::string::npos);
  expect_nothing_begun(pair, before);
  expect_refused_and_nothing_begun(
      pair, {"of what", {{"--no-copy", ""}, {"--dry-run", "true"}}, 1, {"--dry-run", "--create"}});
  // What was printed is SQL that makes the same.
  const auto file = pair.data_dir() / "printed.sql";
  std::ofstream(file) << printed.output;
  const auto made = run({"psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", file, pair.standby()});
  EXPECT_EQ(made.exit_code, 0) << made.error_output;
}

TEST(CopySchema, MakesWhatTheChosenTablesNeedOnly) {
  Pair pair(copying({"--create-schema"}, {"--tables", "shop.t,public.other"}));
  pair.on_master(
      "CREATE SCHEMA shop; CREATE SCHEMA elsewhere; CREATE TYPE shop.mood AS ENUM ('good');"
      "CREATE TYPE shop.unused AS ENUM ('bad'); CREATE EXTENSION citext SCHEMA elsewhere;"
      "CREATE FUNCTION elsewhere.twice(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 2';"
      "CREATE FUNCTION elsewhere.unused() RETURNS int LANGUAGE sql AS 'SELECT 1';"
      "CREATE TABLE shop.left_out (id int PRIMARY KEY, v shop.unused);"
      "CREATE TABLE shop.t (id serial PRIMARY KEY, m shop.mood, c elsewhere.citext,"
      " n int REFERENCES shop.left_out, w int DEFAULT elsewhere.twice(3));"
      "CREATE INDEX t_twice ON shop.t (elsewhere.twice(n));"
      "CREATE TABLE other (id int PRIMARY KEY); CREATE VIEW seen AS SELECT * FROM shop.left_out;"
      "INSERT INTO shop.t (m, c) VALUES ('good', 'C'); INSERT INTO other VALUES (1)");
  pair.start();
  pair.wait_applied();
  EXPECT_TRUE(pair.same_content("shop.t"));
  EXPECT_TRUE(pair.same_content("public.other"));
  const auto made =
      query_value(pair.standby(),
                  "SELECT string_agg(c.oid::regclass::text, ' ' ORDER BY c.oid::regclass::text "
                  "COLLATE \"C\") FROM pg_class c JOIN "
                  "pg_namespace n "
                  "ON n.oid = relnamespace WHERE nspname IN ('shop', 'elsewhere', 'public')");
  EXPECT_EQ(made, "other other_pkey shop.t shop.t_id_seq shop.t_pkey shop.t_twice");
  EXPECT_EQ(query_value(pair.standby(),
                        "SELECT to_regtype('shop.unused') IS NULL AND "
                        "to_regproc('elsewhere.unused') IS NULL"),
            "t");
}

TEST(CopyTypes, ThatTheMastersValuesCanBeCastTo) {
  Pair pair(copying());
  pair.on_master(
      "CREATE TABLE t (id int PRIMARY KEY, n int, v varchar(10), at timestamptz, d date, c "
      "char(4));"
      "INSERT INTO t SELECT i, -i, 'v' || i, '2026-03-29 01:30:00+02', '2026-01-01', 'c' FROM "
      "generate_series(1, 1000) i; INSERT INTO t (id) VALUES (0)");
  pair.on_standby(
      "CREATE TABLE t (id bigint PRIMARY KEY, n numeric, v text, at text, d timestamp, c text)");
  pair.start();
  pair.on_master("UPDATE t SET n = n - 1, v = v || 'x' WHERE id % 2 = 0");
  pair.wait_applied();
  const std::string seen =
      "(SELECT id, n, v, to_char(at::timestamptz, 'YYYY-MM-DD HH24:MI TZ') AS at, d::date, "
      "rtrim(c::text) AS c FROM public.t)";
  EXPECT_EQ(table_content(pair.standby(), seen), table_content(pair.master(), seen));
}

struct RefusedRow {
  std::string name;
  std::string master;   // columns of t
  std::string rows;     // VALUES
  std::string standby;  // columns of t
  std::vector<std::string> words;
  std::string mended_by;  // on the standby
};

void PrintTo(const RefusedRow& row, std::ostream* to) { *to << row.name; }

class CopyRow : public testing::TestWithParam<RefusedRow> {};

TEST_P(CopyRow, IsNamedAndTheCopyGoesOnAfterItWasMended) {
  const auto& c = GetParam();
  PairOptions options = copying();
  options.name = "copy_row_" + c.name;
  Pair pair(options);
  pair.on_both("CREATE TABLE other (id int PRIMARY KEY)");
  pair.on_master(
      fmt::format("CREATE TABLE t ({}); INSERT INTO t VALUES {}; INSERT INTO other "
                  "VALUES (1)",
                  c.master, c.rows));
  pair.on_standby(fmt::format("CREATE TABLE t ({})", c.standby));
  pair.start();
  auto words = c.words;
  words.insert(words.end(), {"public.t", "mend it on the standby", "start the receiver again"});
  expect_ends_refused(pair.receiver(), 5, words);
  EXPECT_EQ(query_value(pair.standby(), "SELECT count(*) FROM t"), "0");
  EXPECT_EQ(query_value(pair.standby(), "SELECT applied_lsn FROM bitacora.progress"), "0/0");
  pair.on_master("INSERT INTO other VALUES (2)");
  pair.on_standby(c.mended_by);
  pair.start_receiver();
  pair.wait_applied();
  const std::string sent = "(SELECT id, v FROM public.t)";
  EXPECT_EQ(table_content(pair.standby(), sent), table_content(pair.master(), sent));
  EXPECT_TRUE(pair.same_content("public.other"));
}

INSTANTIATE_TEST_SUITE_P(
    Refused, CopyRow,
    testing::Values(RefusedRow{"cast",
                               "id int, v text",
                               "(1, '7'), (2, 'abc')",
                               "id int, v int",
                               {"line 2", "column v", "\"abc\""},
                               "ALTER TABLE t ALTER v TYPE text"},
                    RefusedRow{"range",
                               "id int, v bigint",
                               "(1, 7), (2, 5000000000)",
                               "id int, v int",
                               {"line 2", "column v", "5000000000"},
                               "ALTER TABLE t ALTER v TYPE bigint"},
                    RefusedRow{"length",
                               "id int, v text",
                               "(1, 'ab'), (2, 'abcd')",
                               "id int, v varchar(3)",
                               {"line 2", "column v", "too long"},
                               "ALTER TABLE t ALTER v TYPE text"},
                    RefusedRow{"check",
                               "id int, v int",
                               "(1, 1), (4711, -1)",
                               "id int, v int CHECK (v > 0)",
                               {"t_v_check", "(4711, -1)", "line 2"},
                               "ALTER TABLE t DROP CONSTRAINT t_v_check"},
                    RefusedRow{"not_null",
                               "id int, v int",
                               "(1, 1), (4711, NULL)",
                               "id int, v int NOT NULL",
                               {"\"v\"", "(4711, null)", "line 2"},
                               "ALTER TABLE t ALTER v DROP NOT NULL"},
                    RefusedRow{"extra",
                               "id int, v int",
                               "(4711, 1)",
                               "id int, v int, e int DEFAULT nullif(1, 1) NOT NULL",
                               {"\"e\"", "(4711, 1, null)", "line 1"},
                               "ALTER TABLE t ALTER e SET DEFAULT 3"},
                    RefusedRow{"unique",
                               "id int, v int",
                               "(1, 7), (2, 7)",
                               "id int, v int UNIQUE",
                               {"t_v_key", "(v)=(7)", "line 2"},
                               "ALTER TABLE t DROP CONSTRAINT t_v_key"},
                    RefusedRow{
                        "partition",
                        "id int, v int",
                        "(1, 1), (4711, 500)",
                        "id int, v int) PARTITION BY RANGE (v); CREATE TABLE t1 PARTITION OF t FOR "
                        "VALUES FROM (0) TO (100",
                        {"no partition", "(v) = (500)", "line 2"},
                        "CREATE TABLE t2 PARTITION OF t DEFAULT"}),
    [](const auto& refused) { return refused.param.name; });

// Nothing has begun: the catalogue says it before any row is read.
TEST(CopyRefused, AColumnThatNothingFills) {
  Pair pair(copying());
  pair.on_master("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)");
  pair.on_standby("CREATE TABLE t (id int PRIMARY KEY, extra int NOT NULL)");
  pair.start_sender();
  pair.wait_for_slot();
  expect_refused_and_nothing_begun(pair,
                                   {"NOT NULL", kCopies, 5, {"public.t", "extra", "SET DEFAULT"}});
}

}  // namespace
}  // namespace bitacora::harness
