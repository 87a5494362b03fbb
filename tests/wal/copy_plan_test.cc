#include "wal/copy_plan.h"

#include <future>
#include <pqxx/pqxx>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "tests/postgres/database.h"
#include "tests/wal/copy_fixture.h"

namespace bitacora::wal {
namespace {

using harness::eventually;

std::string columns(const CopyPlanTable& table) {
  std::vector<std::string> names;
  for (const auto& column : table.plan.relation().columns()) names.push_back(column.name());
  return fmt::format("{}", fmt::join(names, " "));
}

// As SQL, in the plan's order.
std::string pieces(const CopyPlanTable& table) {
  std::vector<std::string> names;
  for (const auto& piece : table.plan.pieces()) names.push_back(table.pieces.at(piece.oid()));
  return fmt::format("{}", fmt::join(names, " "));
}

class CopyPlanTest : public CopyFixture {
 protected:
  void TearDown() override {
    if (!conninfo().empty() &&
        value("SELECT count(*) FROM pg_roles WHERE rolname = 'copier'") == "1")
      sql("DROP OWNED BY copier; DROP ROLE copier");
    CopyFixture::TearDown();
  }
  // May replicate, and nothing else.
  std::string conninfo_of_copier() const {
    sql("CREATE ROLE copier LOGIN REPLICATION");
    return conninfo() + " user=copier";
  }
  static Result<std::vector<CopyPlanTable>> plan_as(const std::string& conninfo,
                                                    const std::vector<pb::TableName>& tables) {
    auto in = CopySnapshot::make(conninfo, {});
    if (!in.ok()) return in.error();
    return plan_copy(*in, conninfo, "p", tables, {});
  }
};

TEST_P(CopyPlanTest, ATableIsItsOwnPiece) {
  sql("CREATE TABLE \"T x\" (id int PRIMARY KEY, g int GENERATED ALWAYS AS (id + 1) STORED, v "
      "text);"
      "CREATE TABLE child () INHERITS (\"T x\"); CREATE TABLE never (id int); CREATE TABLE bare ();"
      "INSERT INTO \"T x\" (id, v) SELECT i, repeat('x', 100) FROM generate_series(1, 1000) i;"
      "ANALYZE \"T x\"; CREATE PUBLICATION p FOR ALL TABLES");
  auto in = snapshot();
  const auto planned = try_plan(in, {"never", "T x", "bare"});
  ASSERT_TRUE(succeeded(planned));
  ASSERT_EQ(planned->size(), 3u);
  const auto& table = planned->at(1);
  EXPECT_EQ(columns(table), "id v");
  EXPECT_EQ(pieces(table), "public.\"T x\"") << "what inherits from it is a table of its own";
  EXPECT_EQ(table.plan.rows(), 1000);
  EXPECT_FALSE(table.plan.filtered());
  const auto& piece = table.plan.pieces(0);
  EXPECT_EQ(piece.oid(), table.plan.relation().oid());
  EXPECT_EQ(std::to_string(piece.pages()), value("SELECT pg_relation_size('\"T x\"') / 8192"));
  EXPECT_EQ(std::to_string(piece.bytes()), value("SELECT pg_table_size('\"T x\"')"));
  EXPECT_EQ(planned->at(0).plan.relation().name(), "never");
  EXPECT_EQ(planned->at(2).plan.relation().columns_size(), 0);
}

TEST_P(CopyPlanTest, ATableThatWasNeverAnalyzedHasNoEstimate) {
  sql("CREATE TABLE t (id int) WITH (autovacuum_enabled = off); INSERT INTO t VALUES (1);"
      "CREATE PUBLICATION p FOR TABLE t");
  auto in = snapshot();
  EXPECT_EQ(plan(in, "t").plan.rows(), -1);
}

TEST_P(CopyPlanTest, ATreeUnderItsRootsNameHasItsLeavesAsPieces) {
  sql("CREATE TABLE root (id int, v text) PARTITION BY RANGE (id);"
      "CREATE TABLE low PARTITION OF root FOR VALUES FROM (0) TO (10);"
      "CREATE TABLE middle PARTITION OF root FOR VALUES FROM (10) TO (20) PARTITION BY LIST (v);"
      "CREATE TABLE \"Middle a\" PARTITION OF middle FOR VALUES IN ('a');"
      "CREATE TABLE hollow PARTITION OF root FOR VALUES FROM (20) TO (30) PARTITION BY LIST (v);"
      "CREATE TABLE empty (id int) PARTITION BY RANGE (id);"
      "INSERT INTO root VALUES (1, 'x'), (11, 'a'), (12, 'a'); ANALYZE low; ANALYZE \"Middle a\";"
      "CREATE PUBLICATION p FOR TABLE root, empty WITH (publish_via_partition_root)");
  auto in = snapshot();
  const auto planned = try_plan(in, {"root", "empty"});
  ASSERT_TRUE(succeeded(planned));
  EXPECT_EQ(pieces(planned->at(0)), "public.\"Middle a\" public.low");
  EXPECT_EQ(planned->at(0).plan.relation().name(), "root");
  EXPECT_EQ(planned->at(0).plan.rows(), 3);
  EXPECT_EQ(planned->at(1).plan.pieces_size(), 0);
}

TEST_P(CopyPlanTest, AForeignLeafIsRefusedByName) {
  sql("CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w;"
      "CREATE TABLE root (id int) PARTITION BY RANGE (id);"
      "CREATE FOREIGN TABLE away PARTITION OF root DEFAULT SERVER s");
  sql("CREATE PUBLICATION p FOR TABLE root WITH (publish_via_partition_root)");
  auto in = snapshot();
  const auto planned = try_plan(in, {"root"});
  ASSERT_FALSE(planned.ok());
  EXPECT_EQ(planned.error().code, ErrorCode::kConfiguration);
  EXPECT_NE(planned.error().message.find("public.away is a foreign table"), std::string::npos)
      << one_line(planned.error());
}

TEST_P(CopyPlanTest, ColumnListsAndRowFiltersHold) {
  if (version() < 15) GTEST_SKIP() << "they came with PostgreSQL 15";
  sql("CREATE TABLE t (id int PRIMARY KEY, secret text, v text);"
      "CREATE PUBLICATION p FOR TABLE t (v, id) WHERE (id > 10)");
  auto in = snapshot();
  const auto table = plan(in, "t");
  EXPECT_EQ(columns(table), "id v");
  EXPECT_EQ(table.row_filter, "(id > 10)");
  EXPECT_TRUE(table.plan.filtered());
}

// In the snapshot, not as it is by now.
TEST_P(CopyPlanTest, IsOfTheSnapshot) {
  sql("CREATE TABLE t (id int); CREATE PUBLICATION p FOR ALL TABLES");
  auto in = snapshot();
  sql("ALTER TABLE t ADD v text; CREATE TABLE later (id int)");
  EXPECT_EQ(columns(plan(in, "t")), "id");
  const auto later = try_plan(in, {"later"});
  ASSERT_FALSE(later.ok());
  EXPECT_EQ(later.error().code, ErrorCode::kConfiguration);
  EXPECT_NE(later.error().message.find("public.later"), std::string::npos);
  EXPECT_TRUE(in.alive()) << "what is not published does not end the snapshot";
  const auto without = plan_copy(in, conninfo(), "p", {table_name("later"), table_name("t")}, {},
                                 {}, Unpublished::kLeftOut);
  ASSERT_TRUE(without.ok()) << one_line(without.error());
  ASSERT_EQ(without->size(), 1u);
  EXPECT_EQ(without->front().plan.relation().name(), "t");
}

TEST_P(CopyPlanTest, NamesAllTablesThatTheRoleMayNotReadAndTheGrant) {
  sql("CREATE SCHEMA s; CREATE TABLE a (id int); CREATE TABLE \"B b\" (id int); CREATE TABLE c (id "
      "int);"
      "CREATE TABLE s.d (id int); CREATE TABLE by_column (id int, v text);"
      "CREATE TABLE one_column (id int, v text); CREATE TABLE root (id int) PARTITION BY RANGE "
      "(id);"
      "CREATE TABLE leaf PARTITION OF root DEFAULT;"
      "CREATE PUBLICATION p FOR ALL TABLES WITH (publish_via_partition_root)");
  const auto copier = conninfo_of_copier();
  sql("GRANT SELECT ON c, s.d, root TO copier; GRANT SELECT (id, v) ON by_column TO copier;"
      "GRANT SELECT (id) ON one_column TO copier");
  const std::vector<pb::TableName> all{
      table_name("a"),         table_name("B b"),        table_name("c"),   table_name("d", "s"),
      table_name("by_column"), table_name("one_column"), table_name("root")};
  const auto planned = plan_as(copier, all);
  ASSERT_FALSE(planned.ok());
  EXPECT_EQ(planned.error().code, ErrorCode::kMaster);
  EXPECT_EQ(
      planned.error().message,
      "role copier may not read public.\"B b\", public.a, public.leaf, public.one_column, s.d");
  EXPECT_EQ(planned.error().hint,
            "run on the master: GRANT USAGE ON SCHEMA s TO copier; "
            "GRANT SELECT ON public.\"B b\", public.a, public.leaf, public.one_column TO copier");
  sql(planned.error().hint.substr(planned.error().hint.find("GRANT")));
  EXPECT_TRUE(succeeded(plan_as(copier, all))) << "the hint mends it";
}

TEST_P(CopyPlanTest, RowLevelSecurityIsRefusedWhereItHides) {
  sql("CREATE TABLE t (id int); CREATE TABLE open (id int); ALTER TABLE t ENABLE ROW LEVEL "
      "SECURITY;"
      "CREATE POLICY part ON t USING (id > 1); CREATE PUBLICATION p FOR ALL TABLES");
  EXPECT_TRUE(succeeded(plan_as(conninfo(), {table_name("t")}))) << "not from a superuser";
  const auto copier = conninfo_of_copier();
  sql("GRANT SELECT ON t, open TO copier");
  const auto planned = plan_as(copier, {table_name("t"), table_name("open")});
  ASSERT_FALSE(planned.ok());
  EXPECT_EQ(planned.error().message, "row level security hides rows of public.t from role copier");
  sql(planned.error().hint.substr(planned.error().hint.find("ALTER")));
  EXPECT_TRUE(succeeded(plan_as(copier, {table_name("t"), table_name("open")})));
}

TEST_P(CopyPlanTest, NamesWhoHasATableLocked) {
  sql("CREATE TABLE t (id int); CREATE PUBLICATION p FOR TABLE t");
  auto in = snapshot();
  pqxx::connection session(conninfo());
  auto lock = std::make_unique<pqxx::work>(session);
  lock->exec("LOCK TABLE t");
  Heard heard;
  auto planning = std::async(std::launch::async, [&] {
    return plan_copy(in, conninfo(), "p", {table_name("t")}, heard.listener());
  });
  EXPECT_TRUE(eventually([&] { return heard.times() == 1; }));
  EXPECT_NE(
      heard.last().find(fmt::format("table public.t is locked by pid {}", session.backendpid())),
      std::string::npos)
      << heard.last();
  lock.reset();
  EXPECT_TRUE(succeeded(planning.get()));
}

TEST_P(CopyPlanTest, StopEndsTheWaitForALock) {
  sql("CREATE TABLE t (id int); CREATE PUBLICATION p FOR TABLE t");
  auto in = snapshot();
  pqxx::connection session(conninfo());
  pqxx::work lock(session);
  lock.exec("LOCK TABLE t");
  std::stop_source stop;
  stop.request_stop();
  const auto planned = plan_copy(in, conninfo(), "p", {table_name("t")}, {}, stop.get_token());
  ASSERT_FALSE(planned.ok());
  EXPECT_EQ(planned.error().code, ErrorCode::kMaster);
}

ON_EVERY_VERSION(CopyPlanTest);

}  // namespace
}  // namespace bitacora::wal
