// A publication that is there is brought to what is asked for: plans, changes, and what is refused
// before anything is changed.
#include <future>
#include <memory>
#include <pqxx/pqxx>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "tests/postgres/database.h"
#include "tests/wal/every_version.h"
#include "wal/publication.h"

namespace bitacora::wal {
namespace {

using Texts = std::vector<std::string>;

PublicationOptions tables(Texts patterns) {
  PublicationOptions options;
  options.tables = std::move(patterns);
  return options;
}

PublicationOptions ruled(Texts patterns, std::vector<PublicationRule> rules) {
  auto options = tables(std::move(patterns));
  options.rules = std::move(rules);
  return options;
}

class PublicationChange : public EveryVersion {
 protected:
  void SetUp() override {
    EveryVersion::SetUp();
    if (IsSkipped()) return;
    sql("CREATE SCHEMA shop; CREATE SCHEMA telemetry;"
        "CREATE TABLE shop.orders (id int, region text, total numeric, note text,"
        " PRIMARY KEY (id, region));"
        "CREATE TABLE shop.items (id int PRIMARY KEY, name text, \"Odd Name\" int);"
        "CREATE TABLE telemetry.points (id int PRIMARY KEY, v float8)");
  }

  PublicationPlan plan(const PublicationOptions& options) {
    const auto planned = plan_publication(master(), "p", options);
    EXPECT_TRUE(succeeded(planned));
    return planned.ok() ? *planned : PublicationPlan{};
  }
  // The plan says what is done, what is done leaves nothing to do.
  PublicationPlan change(const PublicationOptions& options) {
    const auto before = state();
    const auto planned = plan(options);
    EXPECT_EQ(state(), before) << "a plan changes nothing";
    const auto done = ensure_publication(master(), "p", options);
    EXPECT_TRUE(succeeded(done));
    if (done.ok()) {
      EXPECT_EQ(done->lines, planned.lines);
    }
    const auto oid = value("SELECT oid FROM pg_publication WHERE pubname = 'p'");
    const auto again = ensure_publication(master(), "p", options);
    EXPECT_TRUE(succeeded(again));
    if (again.ok()) {
      EXPECT_EQ(again->lines, Texts{}) << fmt::format("{}", again->statements);
    }
    EXPECT_EQ(value("SELECT oid FROM pg_publication WHERE pubname = 'p'"), oid);
    return planned;
  }
  Error refusal(const PublicationOptions& options, const std::string& words) {
    const auto before = state();
    const auto refused = ensure_publication(master(), "p", options);
    EXPECT_FALSE(refused.ok());
    EXPECT_EQ(state(), before) << "nothing was changed";
    if (refused.ok()) return {};
    EXPECT_NE(one_line(refused.error()).find(words), std::string::npos)
        << one_line(refused.error());
    return refused.error();
  }

  std::string published() {
    return value(
        "SELECT string_agg(schemaname || '.' || tablename, ' ' ORDER BY schemaname, tablename) "
        "FROM "
        "pg_publication_tables"
        " WHERE pubname = 'p'");
  }
  // All that is published, and how.
  std::string state() {
    return value(
               "SELECT string_agg(to_jsonb(p)::text, ' ' ORDER BY pubname, schemaname, tablename) "
               "FROM "
               "pg_publication_tables p") +
           value(
               "SELECT string_agg(to_jsonb(p)::text, ' ' ORDER BY pubname) FROM pg_publication p");
  }
};

// Those with column lists, row filters and whole schemas.
class PublicationParts : public PublicationChange {
 protected:
  void SetUp() override {
    if (version() < 15) GTEST_SKIP() << "PostgreSQL 15 and newer";
    PublicationChange::SetUp();
  }
  std::string filter(const std::string& table) {
    return value(
        "SELECT coalesce(rowfilter, 'none') FROM pg_publication_tables WHERE pubname = 'p' "
        "AND tablename = '" +
        table + "'");
  }
  std::string columns(const std::string& table) {
    return value(
        "SELECT array_to_string(attnames, ' ') FROM pg_publication_tables WHERE pubname = "
        "'p' AND tablename = '" +
        table + "'");
  }
};

TEST_P(PublicationChange, AddsAndDropsTables) {
  change(tables({"shop.orders"}));
  const auto plan = change(tables({"shop.items", "telemetry.*"}));
  EXPECT_EQ(published(), "shop.items telemetry.points");
  EXPECT_EQ(plan.lines,
            (Texts{"+ table shop.items", "+ table telemetry.points", "- table shop.orders"}));
  EXPECT_EQ(plan.added, (Texts{"shop.items", "telemetry.points"}));
  EXPECT_EQ(plan.dropped, (Texts{"shop.orders"}));
  EXPECT_EQ(plan.to_resync.size(), 2u);
}

TEST_P(PublicationChange, FromAllTablesToAListAndBack) {
  change({});
  const auto narrowed = change(tables({"shop.*"}));
  EXPECT_EQ(value("SELECT puballtables FROM pg_publication"), "f");
  EXPECT_EQ(published(), "shop.items shop.orders");
  EXPECT_EQ(narrowed.dropped, (Texts{"telemetry.points"}));
  EXPECT_TRUE(narrowed.to_resync.empty()) << "those that stay have lost nothing";
  const auto widened = change(tables({"*"}));
  EXPECT_EQ(value("SELECT puballtables FROM pg_publication"), "t");
  EXPECT_EQ(widened.added, (Texts{"telemetry.points"}));
  EXPECT_NE(widened.lock.at(0).find("\"points\""), std::string::npos);
  EXPECT_EQ(widened.lock.at(0).find("\"orders\""), std::string::npos) << "it stays as it was";
}

TEST_P(PublicationChange, Operations) {
  auto options = tables({"shop.*"});
  options.operations = {"insert", "update"};
  change(options);
  EXPECT_EQ(value("SELECT concat_ws(' ', pubinsert, pubupdate, pubdelete, pubtruncate) FROM "
                  "pg_publication"),
            "t t f f");
  EXPECT_TRUE(plan(tables({"shop.*"})).changes_nothing()) << "what is not said stays as it is";
  options.operations = {"truncate", "delete", "insert"};
  EXPECT_EQ(change(options).lines,
            (Texts{"~ publish: insert, update -> insert, delete, truncate"}));
  options.tables.clear();
  EXPECT_TRUE(plan(options).changes_nothing());
  EXPECT_EQ(published(), "shop.items shop.orders") << "its tables were not asked about";
}

// "FOR TABLE parent" alone would name the child too.
TEST_P(PublicationChange, ATableWithoutItsChildren) {
  sql("CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child () INHERITS (parent)");
  change(tables({"public.parent"}));
  EXPECT_EQ(published(), "public.parent");
  change(tables({"public.child"}));
  EXPECT_EQ(published(), "public.child");
}

TEST_P(PublicationChange, AListedRootKeepsItsPartitionsToCome) {
  sql("CREATE TABLE root (id int) PARTITION BY RANGE (id);"
      "CREATE TABLE leaf1 PARTITION OF root FOR VALUES FROM (0) TO (10);"
      "CREATE PUBLICATION p FOR TABLE root");
  EXPECT_TRUE(plan(tables({"public.*"})).changes_nothing());
  sql("CREATE TABLE leaf2 PARTITION OF root FOR VALUES FROM (10) TO (20)");
  EXPECT_TRUE(plan(tables({"public.*"})).changes_nothing());
  change(tables({"public.leaf1"}));
  EXPECT_EQ(published(), "public.leaf1");
}

TEST_P(PublicationChange, ALongTransactionIsNotQueuedBehind) {
  change(tables({"shop.orders"}));
  pqxx::connection connection(conninfo() + " application_name=holder");
  pqxx::work writer(connection);
  writer.exec("INSERT INTO shop.items VALUES (1)");
  const LockPatience patience{std::chrono::milliseconds(100), std::chrono::milliseconds(50), 3};
  const auto refused = ensure_publication(master(), "p", tables({"shop.*"}), patience);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kMaster);
  const auto line = one_line(refused.error());
  const auto pid = writer.exec1("SELECT pg_backend_pid()")[0].as<std::string>();
  EXPECT_NE(line.find("table shop.items is locked by pid " + pid), std::string::npos) << line;
  EXPECT_NE(line.find("INSERT INTO shop.items"), std::string::npos) << line;
  EXPECT_EQ(published(), "shop.orders");

  auto changing = std::async(std::launch::async, [&] {
    return ensure_publication(
        master(), "p", tables({"shop.*"}),
        {std::chrono::milliseconds(100), std::chrono::milliseconds(300), 1000});
  });
  const auto waiting = [&](const char* count) {
    return harness::eventually([&] {
      return value(
                 "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = "
                 "'ShareRowExclusiveLock'") == count;
    });
  };
  EXPECT_TRUE(waiting("1"));
  EXPECT_TRUE(waiting("0")) << "others never get their turn";
  EXPECT_EQ(published(), "shop.orders");
  writer.commit();
  EXPECT_TRUE(succeeded(changing.get()));
  EXPECT_EQ(published(), "shop.items shop.orders");
}

// The next one queues for the lock before this one lets go, so that every plan waits, and grows
// old.
TEST_P(PublicationChange, OthersWhoNeverStopAreGivenUpOn) {
  struct Holder {
    explicit Holder(const std::string& conninfo) : connection(conninfo), tx(connection) {
      tx.exec("LOCK TABLE shop.items IN ROW EXCLUSIVE MODE");
    }
    pqxx::connection connection;
    pqxx::work tx;
  };
  const auto hold = [&] { return std::make_unique<Holder>(conninfo()); };
  const auto waits = [&](const std::string& mode) {
    return harness::eventually([&] {
      return value("SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = '" + mode + "'") ==
             "1";
    });
  };
  change(tables({"shop.orders", "telemetry.points"}));
  auto holder = hold();
  auto changing = std::async(std::launch::async, [&] {
    return ensure_publication(master(), "p", tables({"shop.*", "telemetry.*"}),
                              {std::chrono::seconds(20), std::chrono::milliseconds(50), 1});
  });
  for (const char* others : {"DROP", "ADD", "DROP", "ADD", "DROP"}) {
    EXPECT_TRUE(waits("ShareRowExclusiveLock"));
    auto next = std::async(std::launch::async, hold);
    EXPECT_TRUE(waits("RowExclusiveLock"));
    sql(fmt::format("ALTER PUBLICATION p {} TABLE shop.orders", others));
    holder.reset();
    holder = next.get();
  }
  const auto refused = changing.get();
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kMaster);
  EXPECT_TRUE(refused.error().heals());
  EXPECT_NE(refused.error().message.find("by somebody else"), std::string::npos)
      << refused.error().message;
  EXPECT_EQ(published(), "telemetry.points");
}

TEST_P(PublicationChange, PatternsThatMatchNothing) {
  auto options = tables({"shop.*", "!shop.log", "nowhere.*"});
  EXPECT_EQ(plan(options).unmatched, (Texts{"nowhere.*", "!shop.log"}));
  options.strict = true;
  EXPECT_EQ(refusal(options, "nothing on the master matches nowhere.*, !shop.log").code,
            ErrorCode::kConfiguration);
}

TEST_P(PublicationChange, PartsNeedFifteen) {
  if (version() >= 15) GTEST_SKIP() << "it has them";
  auto options = ruled({"shop.*"}, {{"shop.orders", {}, "id > 1"}});
  EXPECT_EQ(refusal(options, "[table.\"shop.orders\"] needs PostgreSQL 15").code,
            ErrorCode::kConfiguration);
  options = {};
  options.schemas = {"shop"};
  EXPECT_EQ(refusal(options, "--schemas needs PostgreSQL 15").code, ErrorCode::kConfiguration);
}

TEST_P(PublicationParts, ColumnsAndFilters) {
  change(tables({"shop.*"}));
  const auto first = change(ruled({"shop.*"}, {{"shop.orders", {"total", "region", "id"}, {}},
                                               {"shop.items", {}, "id>=100 -- of this year"}}));
  EXPECT_EQ(columns("orders"), "id region total");
  EXPECT_EQ(filter("items"), "(id >= 100)");
  EXPECT_EQ(first.lines, (Texts{"~ table shop.items: where true -> (id >= 100)",
                                "~ table shop.orders: columns all -> (id, region, total)"}));
  EXPECT_EQ(first.to_resync.size(), 1u) << "fewer columns lack nothing";

  const auto second =
      change(ruled({"shop.*"}, {{"shop.orders", {"id", "region"}, "region = 'eu'"}}));
  EXPECT_EQ(columns("orders"), "id region");
  EXPECT_EQ(filter("orders"), "(region = 'eu'::text)");
  EXPECT_EQ(filter("items"), "none") << "a section that is gone filters no longer";
  EXPECT_EQ(second.changed, (Texts{"shop.items", "shop.orders"}));
  EXPECT_TRUE(plan(ruled({"shop.*"}, {{"shop.orders", {"region", "id"}, "((region)='eu')"}}))
                  .changes_nothing())
      << "the same, spelled in another way";
  for (const std::string where : {"id::bool", "(id > 1) OR (name = ')')", "name = '('", "true"}) {
    SCOPED_TRACE(where);
    auto options = ruled({"shop.*"}, {{"shop.items", {}, where}});
    options.operations = {"insert"};
    change(options);
    EXPECT_NE(filter("items"), "none");
  }
}

TEST_P(PublicationParts, OddNames) {
  sql(R"(CREATE TABLE shop."Or""der" ("Id" int PRIMARY KEY, "select" text, x int))");
  const auto plan = change(ruled({"shop.*"}, {{"shop.Or\"der", {"select", "Id"}, "\"Id\" > 5"},
                                              {"shop.items", {"Odd Name", "id"}, {}}}));
  EXPECT_EQ(columns("Or\"der"), "Id select");
  EXPECT_EQ(filter("Or\"der"), "(\"Id\" > 5)");
  EXPECT_EQ(columns("items"), "id Odd Name");
}

TEST_P(PublicationParts, WholeSchemas) {
  PublicationOptions options;
  options.schemas = {"telemetry"};
  change(options);
  EXPECT_EQ(published(), "telemetry.points");
  sql("CREATE TABLE telemetry.later (id int PRIMARY KEY)");
  EXPECT_EQ(published(), "telemetry.later telemetry.points") << "the tables to come too";
  options.schemas = {"telemetry", "shop"};
  const auto more = change(options);
  EXPECT_EQ(more.added, (Texts{"schema shop", "shop.items", "shop.orders"}));
  EXPECT_NE(more.lock.at(0).find("\"items\""), std::string::npos);
  options.schemas = {"telemetry"};
  options.tables = {"shop.items"};
  change(options);
  EXPECT_EQ(published(), "shop.items telemetry.later telemetry.points");
  options.tables.clear();
  options.rules = {{"shop.orders", {}, "region = 'eu'"}};
  change(options);
  EXPECT_EQ(published(), "shop.orders telemetry.later telemetry.points")
      << "a section beside schemas names its tables";
  options.schemas.emplace_back("nowhere");
  EXPECT_EQ(plan(options).unmatched, (Texts{"nowhere"}));
}

TEST_P(PublicationParts, WhatPostgreSqlRefusesNamesTheTable) {
  change(tables({"shop.*"}));
  struct Case {
    PublicationRule rule;
    std::string words;
  };
  for (const Case& c : {
           Case{{"shop.orders", {}, "totl > 100"}, "column \"totl\" does not exist"},
           Case{{"shop.*ers", {}, "total >"}, "syntax error"},
           Case{{"shop.orders", {}, "total"}, "must be type boolean"},
           Case{{"shop.orders", {}, "random() > 0.5"}, "publication WHERE expression"},
           Case{{"shop.orders", {}, "true); DROP TABLE shop.items; SELECT (1"},
                "cannot insert multiple commands"},
           Case{{"shop.orders", {"id", "region", "nope"}, {}}, "column \"nope\""},
       }) {
    SCOPED_TRACE(c.words);
    const auto error = refusal(ruled({"shop.*"}, {c.rule}), c.words);
    EXPECT_EQ(error.code, ErrorCode::kConfiguration);
    EXPECT_NE(error.message.find("[table.\"" + c.rule.pattern + "\"]"), std::string::npos);
    EXPECT_NE(error.message.find("for table shop.orders: "), std::string::npos) << error.message;
    EXPECT_EQ(error.message.find("bitacora_probe"), std::string::npos) << error.message;
  }
  auto options = ruled({}, {{"shop.orders", {"id", "region"}, {}}});
  options.schemas = {"telemetry"};
  refusal(options, "cannot use column list for relation \"shop.orders\"");
}

// As the master's own UPDATE says, which is asked beside.
TEST_P(PublicationParts, WhatItWouldRefuseTheApplicationLater) {
  sql("INSERT INTO shop.orders VALUES (1, 'eu', 1); INSERT INTO shop.items VALUES (1);"
      "CREATE TABLE shop.whole (id int PRIMARY KEY, n int); ALTER TABLE shop.whole REPLICA "
      "IDENTITY "
      "FULL; INSERT INTO shop.whole VALUES (1)");
  struct Case {
    std::string table;
    PublicationRule rule;
    std::string words;  // empty: it may
  };
  for (const Case& c : {
           Case{"orders", {"shop.orders", {"id", "total"}, {}}, "columns leaves out region"},
           Case{"orders", {"shop.orders", {}, "total > 1"}, "where reads total"},
           Case{"orders", {"shop.orders", {"id", "region"}, "note <> ''"}, "where reads note"},
           Case{"orders", {"shop.orders", {"id", "region", "note"}, "region <> '' AND id > 0"}, ""},
           Case{"whole", {"shop.whole", {}, "n > 1"}, ""},
           Case{"whole", {"shop.whole", {"id", "n"}, {}}, "REPLICA IDENTITY FULL"},
           Case{"items", {"shop.items", {}, "\"Odd Name\" = 1"}, "where reads \"Odd Name\""},
       }) {
    SCOPED_TRACE(c.table + " " + c.words + c.rule.where);
    const auto update = fmt::format("UPDATE shop.{} SET id = id", c.table);
    auto options = ruled({"shop.*"}, {c.rule});
    if (c.words.empty()) {
      change(options);
      sql(update);
      continue;
    }
    const auto error = refusal(options, c.words);
    EXPECT_NE(error.message.find("shop." + c.table), std::string::npos) << error.message;
    options.operations = {"insert"};
    change(options);
    sql(update);  // is not published
    sql("ALTER PUBLICATION p SET (publish = 'insert, update')");
    EXPECT_THROW(sql(update), pqxx::sql_error) << "the master sees nothing wrong";
    sql("DROP PUBLICATION p");
  }
}

TEST_P(PublicationParts, ByPartitionsRoots) {
  sql("CREATE TABLE root (id int, n int) PARTITION BY RANGE (id);"
      "CREATE TABLE leaf PARTITION OF root FOR VALUES FROM (0) TO (10);"
      "ALTER TABLE leaf ADD PRIMARY KEY (id)");
  auto options = ruled({"public.root"}, {{"public.root", {}, "n > 1"}});
  options.publish_via_partition_root = true;
  refusal(options, "on table public.leaf");
  options.rules[0].where = "id > 1";
  change(options);
  EXPECT_EQ(filter("root"), "(id > 1)");
}

TEST_P(PublicationParts, SectionsThatContradict) {
  refusal(ruled({"shop.*"}, {{"shop.o*", {}, "id > 1"}, {"*.orders", {}, "id > 2"}}),
          "[table.\"shop.o*\"] and [table.\"*.orders\"] both match table shop.orders");
  auto options = ruled({}, {{"shop.orders", {}, "id > 1"}});
  options.schemas = {"shop"};
  refusal(options, "--schemas ships all of shop");
  options = tables({"!shop.orders"});
  options.schemas = {"shop"};
  refusal(options, "--tables !shop.orders leaves out shop.orders");
}

ON_EVERY_VERSION(PublicationChange);
ON_EVERY_VERSION(PublicationParts);

}  // namespace
}  // namespace bitacora::wal
