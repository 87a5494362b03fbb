#include "wal/publication.h"

#include <future>
#include <pqxx/pqxx>

#include <fmt/format.h>

#include "tests/postgres/database.h"
#include "tests/wal/every_version.h"

namespace bitacora::wal {
namespace {

PublicationOptions everything() { return {}; }

PublicationOptions chosen(const std::vector<std::string>& patterns) { return {patterns}; }

PublicationOptions via_root(PublicationOptions options) {
  options.publish_via_partition_root = true;
  return options;
}

class PublicationTest : public EveryVersion {
 protected:
  // Expects success; whether it was created.
  bool ensure(const PublicationOptions& options, const std::string& name = "p") {
    const auto done = ensure_publication(master(), name, options);
    EXPECT_TRUE(succeeded(done));
    return done.ok() && done->creates;
  }

  Error refusal(const PublicationOptions& options, const std::string& name = "p") {
    const auto refused = ensure_publication(master(), name, options);
    EXPECT_FALSE(refused.ok());
    return refused.ok() ? Error{} : refused.error();
  }

  // "public.a, sales.b", without public. when nothing else is.
  std::string published(const std::string& name = "p") {
    return value(fmt::format(
        "SELECT string_agg(schemaname || '.' || tablename, ' ' ORDER BY schemaname, tablename)"
        " FROM pg_publication_tables WHERE pubname = '{}'",
        name));
  }
};

TEST_P(PublicationTest, EveryTableMeansThoseToComeToo) {
  sql("CREATE TABLE a (id int)");
  EXPECT_TRUE(ensure(everything()));
  EXPECT_FALSE(ensure(everything())) << "a second start creates nothing";
  sql("CREATE TABLE b (id int)");
  EXPECT_EQ(value("SELECT puballtables FROM pg_publication"), "t");
  EXPECT_EQ(published(), "public.a public.b");
}

TEST_P(PublicationTest, PatternsChoose) {
  sql("CREATE SCHEMA sales; CREATE SCHEMA bitacora; CREATE TABLE a (id int); CREATE TABLE ab (id "
      "int);"
      "CREATE TABLE sales.a (id int); CREATE TABLE sales.log (id int); CREATE TABLE "
      "bitacora.progress ();"
      "CREATE UNLOGGED TABLE unlogged (id int); CREATE VIEW v AS SELECT 1");
  struct Case {
    std::string name;
    std::vector<std::string> patterns;
    std::string expected;
  };
  const std::vector<Case> cases{
      {"one_table", {"public.a"}, "public.a"},
      {"a_schema", {"sales.*"}, "sales.a sales.log"},
      {"no_dot_is_any_schema", {"a"}, "public.a sales.a"},
      {"wildcards", {"a?"}, "public.ab"},
      {"two", {"public.a", "sales.log"}, "public.a sales.log"},
      {"exclude_only", {"!sales.*"}, "public.a public.ab"},
      {"exclude_wins", {"sales.*", "!*.log"}, "sales.a"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    EXPECT_TRUE(ensure(chosen(c.patterns), c.name));
    EXPECT_EQ(published(c.name), c.expected);
    EXPECT_FALSE(ensure(chosen(c.patterns), c.name));
    EXPECT_EQ(published(c.name), c.expected);
  }
}

TEST_P(PublicationTest, NothingChosenIsRefused) {
  sql("CREATE TABLE a (id int)");
  const auto error = refusal(chosen({"no_such_*"}));
  EXPECT_EQ(error.code, ErrorCode::kConfiguration);
  EXPECT_FALSE(error.hint.empty());
  EXPECT_EQ(value("SELECT count(*) FROM pg_publication"), "0");
}

TEST_P(PublicationTest, ANewTableJoinsAtTheNextStart) {
  sql("CREATE TABLE a1 (id int)");
  EXPECT_TRUE(ensure(chosen({"a*"})));
  sql("CREATE TABLE a2 (id int); CREATE TABLE b (id int)");
  EXPECT_EQ(published(), "public.a1");
  EXPECT_FALSE(ensure(chosen({"a*"})));
  EXPECT_EQ(published(), "public.a1 public.a2");
}

// A transaction that wrote before the table was added must not be published in part.
TEST_P(PublicationTest, ATableJoinsOnlyWhenNobodyIsWritingToIt) {
  sql("CREATE TABLE a1 (id int)");
  ASSERT_TRUE(ensure(chosen({"a*"})));
  sql("CREATE TABLE a2 (id int)");
  pqxx::connection connection(conninfo());
  pqxx::work writer(connection);
  writer.exec("INSERT INTO a2 VALUES (1)");
  auto joining = std::async(std::launch::async, [&] { return ensure(chosen({"a*"})); });
  EXPECT_TRUE(harness::eventually([&] {
    return value(
               "SELECT count(*) FROM pg_locks WHERE relation = 'a2'::regclass AND NOT granted"
               " AND mode = 'ShareRowExclusiveLock'") == "1";
  }));
  EXPECT_EQ(published(), "public.a1");
  writer.commit();
  joining.get();
  EXPECT_EQ(published(), "public.a1 public.a2");
}

TEST_P(PublicationTest, BroaderThanAskedIsNarrowed) {
  sql("CREATE TABLE a (id int); CREATE TABLE b (id int);"
      "CREATE PUBLICATION listed FOR TABLE a, b; CREATE PUBLICATION whole FOR ALL TABLES");
  for (const std::string name : {"listed", "whole"}) {
    SCOPED_TRACE(name);
    EXPECT_FALSE(ensure(chosen({"a"}), name));
    EXPECT_EQ(published(name), "public.a");
  }
}

TEST_P(PublicationTest, AnExistingListIsKeptWhenNothingWasAsked) {
  sql("CREATE TABLE a (id int); CREATE TABLE b (id int); CREATE PUBLICATION p FOR TABLE a");
  EXPECT_FALSE(ensure(everything()));
  EXPECT_EQ(published(), "public.a");
}

TEST_P(PublicationTest, RootOrLeaves) {
  sql("CREATE TABLE root (id int) PARTITION BY RANGE (id); CREATE TABLE leaf PARTITION OF root "
      "DEFAULT;"
      "CREATE TABLE plain (id int)");
  struct Case {
    std::string name;
    PublicationOptions options;
    std::string expected;
  };
  const std::vector<Case> cases{
      {"all_leaves", everything(), "public.leaf public.plain"},
      {"all_roots", via_root(everything()), "public.plain public.root"},
      {"chosen_leaves", chosen({"public.*"}), "public.leaf public.plain"},
      {"chosen_roots", via_root(chosen({"public.*"})), "public.plain public.root"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    EXPECT_TRUE(ensure(c.options, c.name));
    EXPECT_EQ(published(c.name), c.expected);
    EXPECT_FALSE(ensure(c.options, c.name));
    EXPECT_EQ(published(c.name), c.expected);
    auto other = c.options;
    other.publish_via_partition_root = !other.publish_via_partition_root;
    const auto error = refusal(other, c.name);
    EXPECT_EQ(error.code, ErrorCode::kConfiguration);
    EXPECT_NE(error.message.find("publish_via_partition_root"), std::string::npos);
  }
}

TEST_P(PublicationTest, WithoutTheRightItSaysWhatASuperuserRuns) {
  sql("DROP ROLE IF EXISTS humble; CREATE ROLE humble LOGIN REPLICATION; CREATE TABLE a (id int)");
  MasterSession humble(conninfo() + " user=humble");
  for (const auto& options : {everything(), chosen({"a"})}) {
    const auto refused = ensure_publication(humble, "select", options);
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code, ErrorCode::kMaster);
    EXPECT_FALSE(refused.error().heals());
    EXPECT_NE(refused.error().hint.find("superuser"), std::string::npos)
        << one_line(refused.error());
    EXPECT_NE(refused.error().hint.find("CREATE PUBLICATION \"select\" FOR ALL TABLES"),
              std::string::npos)
        << one_line(refused.error());
  }
  sql("CREATE PUBLICATION \"select\" FOR ALL TABLES");
  EXPECT_TRUE(succeeded(ensure_publication(humble, "select", everything())))
      << "to use what a superuser made takes no right";
}

TEST_P(PublicationTest, AnyNameIsPossible) {
  sql(R"(CREATE SCHEMA "user"; CREATE TABLE "user"."order" (id int); CREATE TABLE "user"."it's ""x""" (id int))");
  for (const std::string name : {"select", "With Space", "quote\"s", "it''s"}) {
    SCOPED_TRACE(name);
    EXPECT_TRUE(ensure(chosen({"user.order"}), name));
    EXPECT_FALSE(ensure(chosen({"user.*"}), name));
    EXPECT_TRUE(*drop_publication(master(), name));
    EXPECT_FALSE(*drop_publication(master(), name));
  }
}

TEST_P(PublicationTest, TablesWithoutIdentityAreNamed) {
  sql(R"(
    CREATE TABLE keyed (id int PRIMARY KEY);
    CREATE TABLE keyless (id int);
    CREATE TABLE deferred (id int PRIMARY KEY DEFERRABLE);
    CREATE TABLE whole (id int); ALTER TABLE whole REPLICA IDENTITY FULL;
    CREATE TABLE nothing (id int PRIMARY KEY); ALTER TABLE nothing REPLICA IDENTITY NOTHING;
    CREATE TABLE by_index (id int NOT NULL); CREATE UNIQUE INDEX i ON by_index (id);
    ALTER TABLE by_index REPLICA IDENTITY USING INDEX i;
    CREATE TABLE lost_index (id int NOT NULL); CREATE UNIQUE INDEX l ON lost_index (id);
    ALTER TABLE lost_index REPLICA IDENTITY USING INDEX l; DROP INDEX l;
    CREATE TABLE "Odd" (id int);
    CREATE PUBLICATION p FOR ALL TABLES)");
  const auto names = tables_without_identity(master(), "p");
  ASSERT_TRUE(succeeded(names));
  const std::vector<std::string> expected{"public.\"Odd\"", "public.deferred", "public.keyless",
                                          "public.lost_index", "public.nothing"};
  EXPECT_EQ(*names, expected);
  for (const auto& table : expected) {  // the master agrees
    EXPECT_THROW(sql("UPDATE " + table + " SET id = id"), pqxx::sql_error) << table;
  }
}

ON_EVERY_VERSION(PublicationTest);

}  // namespace
}  // namespace bitacora::wal
