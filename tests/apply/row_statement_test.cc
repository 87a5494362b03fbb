// Golden SQL per shape of row.
#include "apply/row_statement.h"

#include <gtest/gtest.h>

#include <functional>

namespace bitacora::apply {
namespace {

using proto::Row;
using proto::Tuple;
using proto::ValueKind;

constexpr std::uint32_t kInt4 = 23;
constexpr std::uint32_t kInt8 = 20;
constexpr std::uint32_t kText = 25;
constexpr std::uint32_t kJson = 114;

ColumnPlan column(const char* name, std::uint32_t oid, const char* type, bool key = false) {
  ColumnPlan plan;
  plan.name = std::string("\"") + name + "\"";
  plan.type = type;
  plan.equality = "OPERATOR(pg_catalog.=)";
  plan.binary_oid = oid;
  plan.text_oid = oid;
  plan.key = key;
  plan.writable = true;
  return plan;
}

// "s"."t" (id integer key, v text, j json, g integer generated)
TablePlan keyed() {
  TablePlan plan;
  plan.target = R"("s"."t")";
  plan.columns = {column("id", kInt4, "integer", true), column("v", kText, "text"),
                  column("j", kJson, "json"), column("g", kInt4, "integer")};
  plan.columns[2].equality.clear();
  plan.columns[3].writable = false;
  plan.locator = {0};
  plan.columns[0].locates = true;
  return plan;
}

TablePlan whole() {
  TablePlan plan = keyed();
  for (auto& column : plan.columns) column.key = true;
  plan.columns[0].locates = false;
  plan.locator.clear();
  return plan;
}

TablePlan with(TablePlan plan, const std::function<void(TablePlan&)>& change) {
  change(plan);
  return plan;
}

TablePlan loose_identity() {
  return with(keyed(), [](TablePlan& plan) {
    plan.columns[1].identity_always = true;
    plan.loose_identity_always = true;
    plan.carried = {"\"note\""};
  });
}

TablePlan wider_key() {
  return with(keyed(), [](TablePlan& plan) {
    plan.columns[0].text_oid = kInt8;
    plan.columns[0].cast = "bigint";
  });
}

TablePlan partitioned() {
  return with(keyed(), [](TablePlan& plan) { plan.partitioned = true; });
}

struct Golden {
  const char* name;
  TablePlan plan;
  RowShape shape;
  const char* sql;
  std::vector<std::uint32_t> types;
  const char* parameters;  // o or n, for old or new, and the column
};

std::string describe(const std::vector<ParameterSource>& parameters) {
  std::string out;
  for (const auto& source : parameters) {
    out += (source.from_old ? "o" : "n") + std::to_string(source.column) + " ";
  }
  return out;
}

void expect_golden(const std::vector<Golden>& cases) {
  for (const Golden& c : cases) {
    SCOPED_TRACE(c.name);
    const auto statement = build_row_statement(c.plan, c.shape);
    EXPECT_EQ(statement.sql, c.sql);
    EXPECT_EQ(statement.types, c.types);
    EXPECT_EQ(describe(statement.parameters), c.parameters);
  }
}

TEST(RowStatement, Insert) {
  using enum RowAction;
  const auto always = [](TablePlan& plan) { plan.columns[0].identity_always = true; };
  const auto nothing = [](TablePlan& plan) { plan.columns.clear(); };
  expect_golden({
      {"every column that is not computed",
       keyed(),
       {kInsert, false, false, "bbbb"},
       R"(INSERT INTO "s"."t" ("id", "v", "j") VALUES ($1, $2, $3))",
       {kInt4, kText, kJson},
       "n0 n1 n2 "},
      {"identity always",
       with(keyed(), always),
       {kInsert, false, false, "bbbb"},
       R"(INSERT INTO "s"."t" ("id", "v", "j") OVERRIDING SYSTEM VALUE VALUES ($1, $2, $3))",
       {kInt4, kText, kJson},
       "n0 n1 n2 "},
      {"binary is cast",
       wider_key(),
       {kInsert, false, false, "bbbb"},
       R"(INSERT INTO "s"."t" ("id", "v", "j") VALUES (CAST($1 AS bigint), $2, $3))",
       {kInt4, kText, kJson},
       "n0 n1 n2 "},
      {"text is read by the column's own type",
       wider_key(),
       {kInsert, false, false, "tbbb"},
       R"(INSERT INTO "s"."t" ("id", "v", "j") VALUES ($1, $2, $3))",
       {kInt8, kText, kJson},
       "n0 n1 n2 "},
      {"no column",
       with(keyed(), nothing),
       {kInsert, false, false, ""},
       R"(INSERT INTO "s"."t" DEFAULT VALUES)",
       {},
       ""},
  });
}

TEST(RowStatement, UpdateAndDelete) {
  using enum RowAction;
  expect_golden({
      {"update",
       keyed(),
       {kUpdate, false, false, "bbbb"},
       R"(UPDATE ONLY "s"."t" AS t SET "v" = $1, "j" = $2 WHERE t."id" OPERATOR(pg_catalog.=) $3)",
       {kText, kJson, kInt4},
       "n1 n2 n0 "},
      {"unchanged TOAST is left out",
       keyed(),
       {kUpdate, false, false, "bubb"},
       R"(UPDATE ONLY "s"."t" AS t SET "j" = $1 WHERE t."id" OPERATOR(pg_catalog.=) $2)",
       {kJson, kInt4},
       "n2 n0 "},
      {"key change",
       keyed(),
       {kUpdate, true, false, "bbbb"},
       R"(UPDATE ONLY "s"."t" AS t SET "id" = $1, "v" = $2, "j" = $3 WHERE t."id" OPERATOR(pg_catalog.=) $4)",
       {kInt4, kText, kJson, kInt4},
       "n0 n1 n2 o0 "},
      {"partitioned",
       partitioned(),
       {kUpdate, false, false, "bbub"},
       R"(UPDATE "s"."t" AS t SET "v" = $1 WHERE t."id" OPERATOR(pg_catalog.=) $2)",
       {kText, kInt4},
       "n1 n0 "},
      {"asserted",
       keyed(),
       {kUpdate, false, true, "bbub"},
       R"(WITH done AS (UPDATE ONLY "s"."t" AS t SET "v" = $1 WHERE t."id" OPERATOR(pg_catalog.=) $2 RETURNING 1) SELECT substr('', 1, (-abs(count(*) - 1))::integer) FROM done)",
       {kText, kInt4},
       "n1 n0 "},
      {"delete",
       keyed(),
       {kDelete, true, false, "bbbb"},
       R"(DELETE FROM ONLY "s"."t" AS t WHERE t."id" OPERATOR(pg_catalog.=) $1)",
       {kInt4},
       "o0 "},
      {"delete, cast key",
       wider_key(),
       {kDelete, true, false, "bbbb"},
       R"(DELETE FROM ONLY "s"."t" AS t WHERE t."id" OPERATOR(pg_catalog.=) CAST($1 AS bigint))",
       {kInt4},
       "o0 "},
      {"delete, partitioned and asserted",
       partitioned(),
       {kDelete, true, true, "bbbb"},
       R"(WITH done AS (DELETE FROM "s"."t" AS t WHERE t."id" OPERATOR(pg_catalog.=) $1 RETURNING 1) SELECT substr('', 1, (-abs(count(*) - 1))::integer) FROM done)",
       {kInt4},
       "o0 "},
  });
}

TEST(RowStatement, Replace) {
  using enum RowAction;
  expect_golden({
      {"unchanged and the standby's own values are carried",
       loose_identity(),
       {kReplace, false, false, "bbub"},
       R"(WITH gone AS (DELETE FROM ONLY "s"."t" AS t WHERE t."id" OPERATOR(pg_catalog.=) $1 RETURNING *) INSERT INTO "s"."t" ("id", "v", "j", "note") OVERRIDING SYSTEM VALUE SELECT $2, $3, gone."j", gone."note" FROM gone)",
       {kInt4, kInt4, kText},
       "n0 n0 n1 "},
      {"asserted",
       loose_identity(),
       {kReplace, true, true, "bbbb"},
       R"(WITH gone AS (DELETE FROM ONLY "s"."t" AS t WHERE t."id" OPERATOR(pg_catalog.=) $1 RETURNING *), done AS (INSERT INTO "s"."t" ("id", "v", "j", "note") OVERRIDING SYSTEM VALUE SELECT $2, $3, $4, gone."note" FROM gone RETURNING 1) SELECT substr('', 1, (-abs(count(*) - 1))::integer) FROM done)",
       {kInt4, kInt4, kText, kJson},
       "o0 n0 n1 n2 "},
  });
}

TEST(RowStatement, WholeRow) {
  using enum RowAction;
  const auto statement = build_row_statement(whole(), {kDelete, true, false, "bbbb"});
  EXPECT_EQ(describe(statement.parameters), "o0 o1 o2 ");
  // What equals in the sense of its type, NULL included, and only then by the bytes.
  for (
      const char* part :
      {R"(DELETE FROM ONLY "s"."t" AS t WHERE (t.tableoid, t.ctid) = (SELECT o.tableoid, o.ctid FROM ONLY "s"."t" AS o WHERE )",
       R"((o."id" OPERATOR(pg_catalog.=) $1 OR (o."id" IS NULL AND $1 IS NULL)) AND )",
       R"((CAST(o."j" AS text) = CAST($3 AS text) OR (o."j" IS NULL AND $3 IS NULL)) ORDER BY )",
       R"(pg_catalog.record_image_eq(ROW(o."id", o."v", o."j"), )",
       R"(ROW(CAST($1 AS integer), CAST($2 AS text), CAST($3 AS json)))", " DESC LIMIT 1)"}) {
    EXPECT_NE(statement.sql.find(part), std::string::npos) << part << "\n" << statement.sql;
  }
  EXPECT_EQ(statement.sql.find("\"g\""), std::string::npos) << "a computed column finds nothing";
}

TEST(RowStatement, Truncate) {
  const TablePlan a = keyed();
  const TablePlan b = partitioned();
  using Statements = std::vector<std::string>;
  EXPECT_EQ(build_truncate({.plans = {&a}, .restart_identity = true}),
            Statements{R"(TRUNCATE ONLY "s"."t" RESTART IDENTITY)"});
  EXPECT_EQ(build_truncate({{&a, &b}}),
            Statements{R"(TRUNCATE ONLY "s"."t", "s"."t" CONTINUE IDENTITY)"});
  TablePlan shared = a;
  shared.own_rows = R"("region" = 'eu')";
  EXPECT_EQ(
      build_truncate({{&shared, &b}}),
      (Statements{R"(DELETE FROM ONLY "s"."t" WHERE "region" = 'eu')", R"(DELETE FROM "s"."t")"}));
  EXPECT_EQ(build_truncate({.plans = {&a, &b}, .restart_identity = true, .partial = true}),
            (Statements{R"(DELETE FROM ONLY "s"."t")", R"(DELETE FROM "s"."t")"}));
  EXPECT_EQ(build_truncate({{&a}, {"s.root"}}),
            Statements{R"(TRUNCATE ONLY "s"."t", s.root CONTINUE IDENTITY)"});
}

const proto::Value kOne{ValueKind::kBinary, "1"};
const proto::Value kTwo{ValueKind::kBinary, "2"};
const proto::Value kNull{ValueKind::kNull};
const proto::Value kUnchanged{ValueKind::kUnchanged};

TablePlan always_key() {
  return with(keyed(), [](TablePlan& plan) { plan.columns[0].identity_always = true; });
}

struct ShapeCase {
  const char* name;
  TablePlan plan;
  pb::RowOperation operation;
  Row row;
  RowShape shape;
};

const std::vector<ShapeCase>& shape_cases() {
  using enum RowAction;
  const Tuple one{kOne, kOne, kOne, kNull};
  const Tuple two{kTwo, kOne, kOne, kNull};
  const Tuple key{kOne, kNull, kNull, kNull};
  static const std::vector<ShapeCase> kCases = {
      {"insert is never asserted", keyed(), pb::INSERT, {{}, one}, {kInsert, false, false, "bbbb"}},
      {"update", keyed(), pb::UPDATE, {{}, one}, {kUpdate, false, true, "bbbb"}},
      {"unchanged",
       keyed(),
       pb::UPDATE,
       {{}, {kOne, kUnchanged, kOne, kNull}},
       {kUpdate, false, true, "bubb"}},
      {"nothing left to set",
       keyed(),
       pb::UPDATE,
       {{}, {kOne, kUnchanged, kUnchanged, kNull}},
       {kNothing, false, false, "buub"}},
      {"key change", keyed(), pb::UPDATE_KEY, {key, two}, {kUpdate, true, true, "bbbb"}},
      {"whole row", whole(), pb::UPDATE_FULL, {one, two}, {kUpdate, true, true, "bbbb"}},
      {"delete by key", keyed(), pb::DELETE_KEY, {key, {}}, {kDelete, true, true, "bbbb"}},
      {"delete whole", whole(), pb::DELETE_FULL, {one, {}}, {kDelete, true, true, "bbbb"}},
      {"identity key unchanged",
       always_key(),
       pb::UPDATE,
       {{}, one},
       {kUpdate, false, true, "bbbb"}},
      {"identity key, equal in the old tuple",
       always_key(),
       pb::UPDATE_KEY,
       {key, one},
       {kUpdate, true, true, "bbbb"}},
      {"identity key changed",
       always_key(),
       pb::UPDATE_KEY,
       {key, two},
       {kReplace, true, true, "bbbb"}},
      {"identity beside the key",
       loose_identity(),
       pb::UPDATE,
       {{}, one},
       {kReplace, false, true, "bbbb"}},
      {"identity beside a changed key",
       loose_identity(),
       pb::UPDATE_KEY,
       {key, two},
       {kReplace, true, true, "bbbb"}},
  };
  return kCases;
}

TEST(RowShape, FollowsOperationAndValues) {
  for (const auto& c : shape_cases()) {
    SCOPED_TRACE(c.name);
    const auto shape = shape_of(c.plan, c.operation, c.row, "bbbb", true);
    EXPECT_EQ(shape.action, c.shape.action);
    EXPECT_EQ(shape.has_old, c.shape.has_old);
    EXPECT_EQ(shape.asserted, c.shape.asserted);
    EXPECT_EQ(shape.columns, c.shape.columns);
    EXPECT_FALSE(shape_of(c.plan, c.operation, c.row, "bbbb", false).asserted);
  }
}

TEST(RowShape, TextColumnsMakeAnotherShape) {
  const Row row{{}, {kOne, kUnchanged, kOne, kNull}};
  EXPECT_EQ(shape_of(keyed(), pb::UPDATE, row, "tttb", false).columns, "tutb");
}

}  // namespace
}  // namespace bitacora::apply
