#include "tests/postgres/database.h"

#include <gtest/gtest.h>

#include <pqxx/pqxx>

#include "tests/postgres/pair.h"

namespace bitacora::harness {
namespace {

TEST(Database, CaseNamesFitADatabaseAndASlot) {
  EXPECT_EQ(case_name(), "database_casenamesfitadatabaseandaslot");
}

TEST(Database, AFreshOneIsEmptyEvenTheSecondTime) {
  const auto name = case_name();
  const auto conninfo = fresh_database(shared_master(), name);
  execute(conninfo, "CREATE TABLE t (id int); INSERT INTO t VALUES (42)");
  EXPECT_EQ(query_value(conninfo, "SELECT id FROM t"), "42");
  fresh_database(shared_master(), name);
  EXPECT_THROW(query_value(conninfo, "SELECT id FROM t"), pqxx::undefined_table);
}

TEST(Database, ContentIsTheRowsWhateverTheirOrderAndTheServersSettings) {
  const auto left = fresh_database(shared_master(), "content_left");
  const auto right = fresh_database(shared_master(), "content_right");
  execute(right, "ALTER DATABASE content_right SET DateStyle = 'German'");
  execute(right, "ALTER DATABASE content_right SET TimeZone = 'Asia/Tokyo'");
  const std::string make = "CREATE TABLE t (id int, at timestamptz, note text);";
  execute(left, make + "INSERT INTO t VALUES (1, '2024-05-06 07:08Z', NULL), (10, now(), 'ñ')");
  execute(right, make + "INSERT INTO t VALUES (10, now(), 'ñ'), (1, '2024-05-06 07:08Z', NULL)");
  execute(left, "UPDATE t SET at = '2020-01-01Z' WHERE id = 10");
  EXPECT_NE(table_content(left, "public.t"), table_content(right, "public.t"));
  execute(right, "UPDATE t SET at = '2020-01-01Z' WHERE id = 10");
  EXPECT_EQ(table_content(left, "public.t"), table_content(right, "public.t"));
  EXPECT_EQ(table_content(left, "public.t"),
            "(1,\"2024-05-06 07:08:00+00\",)\n(10,\"2020-01-01 00:00:00+00\",ñ)");
}

TEST(Database, ContentOfALargeTableIsADigest) {
  const auto conninfo = fresh_database(shared_master(), case_name());
  execute(conninfo, "CREATE TABLE t AS SELECT generate_series(1, 5000) AS id");
  const auto before = table_content(conninfo, "public.t");
  EXPECT_TRUE(before.starts_with("5000 rows, digest ")) << before;
  execute(conninfo, "UPDATE t SET id = -7 WHERE id = 7");
  EXPECT_NE(table_content(conninfo, "public.t"), before);
}

TEST(Database, EventuallyGivesUpAtTheTimeout) {
  int asked = 0;
  EXPECT_FALSE(eventually([&] { return ++asked < 0; }, std::chrono::milliseconds(30)));
  EXPECT_GT(asked, 1);
  EXPECT_TRUE(eventually([&] { return true; }));
}

}  // namespace
}  // namespace bitacora::harness
