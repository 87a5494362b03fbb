#include "apply/set_statement.h"

#include <gtest/gtest.h>

namespace bitacora::apply {
namespace {

ColumnPlan column(const char* name, bool locates = false) {
  ColumnPlan plan;
  plan.name = std::string("\"") + name + "\"";
  plan.type = "integer";
  plan.equality = "OPERATOR(pg_catalog.=)";
  plan.writable = true;
  plan.locates = locates;
  return plan;
}

// (id key, v, g computed by the standby, m key over a domain)
TablePlan two_keys() {
  TablePlan plan;
  plan.target = R"("s"."t")";
  plan.columns = {column("id", true), column("v"), column("g"), column("m", true)};
  plan.columns[2].writable = false;
  plan.columns[3].under_domain = "mood";
  plan.locator = {0, 3};
  return plan;
}

TEST(SetStatement, CopyLeavesOutWhatTheStandbyComputes) {
  const auto copy = build_copy(two_keys());
  EXPECT_EQ(copy.sql, R"(COPY "s"."t" ("id", "v", "m") FROM STDIN (FORMAT binary))");
  EXPECT_EQ(copy.columns, (std::vector<std::size_t>{0, 1, 3}));
}

TEST(SetStatement, UpdateSetsWhatWasSentButTheLocator) {
  const auto statement = build_staged_update(two_keys(), "bbbb", "stage_1");
  EXPECT_EQ(statement.create,
            R"(CREATE TEMPORARY TABLE stage_1 ON COMMIT DELETE ROWS AS SELECT "id", "v", "g", "m")"
            R"( FROM "s"."t" WITH NO DATA)");
  EXPECT_EQ(statement.copy.sql,
            R"(COPY pg_temp.stage_1 ("id", "v", "g", "m") FROM STDIN (FORMAT binary))");
  EXPECT_EQ(statement.change,
            R"(UPDATE ONLY "s"."t" AS t SET "v" = s."v" FROM pg_temp.stage_1 AS s)"
            R"( WHERE t."id" OPERATOR(pg_catalog.=) s."id" AND)"
            R"( CAST(t."m" AS mood) OPERATOR(pg_catalog.=) CAST(s."m" AS mood))");
}

TEST(SetStatement, UpdateOfNothingIsNone) {
  const auto statement = build_staged_update(two_keys(), "bubb", "stage_1");
  EXPECT_EQ(statement.copy.columns, (std::vector<std::size_t>{0, 2, 3}));
  EXPECT_EQ(statement.change, "");
}

TEST(SetStatement, DeleteFromAPartitionedTableReachesItsPartitions) {
  auto plan = two_keys();
  plan.partitioned = true;
  plan.locator = {0};
  const auto statement = build_staged_delete(plan, "stage_2");
  EXPECT_EQ(statement.copy.sql, R"(COPY pg_temp.stage_2 ("id") FROM STDIN (FORMAT binary))");
  EXPECT_EQ(statement.change, R"(DELETE FROM "s"."t" AS t USING pg_temp.stage_2 AS s)"
                              R"( WHERE t."id" OPERATOR(pg_catalog.=) s."id")");
}

}  // namespace
}  // namespace bitacora::apply
