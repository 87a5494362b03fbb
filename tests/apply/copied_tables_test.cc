#include "apply/copied_tables.h"

#include <fmt/format.h>

#include "apply/standby_command.h"
#include "tests/apply/standby_fixture.h"

namespace bitacora::apply {
namespace {

constexpr const char* kSubscription = "prueba";

CopiedTable named(const std::string& schema, const std::string& name, std::uint64_t hold = 7) {
  CopiedTable table;
  table.schema = schema;
  table.name = name;
  table.hold_lsn = MasterLsn{hold};
  return table;
}

class CopiedTablesTest : public StandbyFixture {
 protected:
  CopiedTablesTest() { EXPECT_TRUE(succeeded(ensure_copied_tables(session()))); }

  std::vector<CopiedTable> load(const std::string& subscription = kSubscription) {
    const auto tables = load_copied_tables(session(), subscription);
    EXPECT_TRUE(succeeded(tables));
    return tables.ok() ? *tables : std::vector<CopiedTable>{};
  }

  void add(const std::vector<CopiedTable>& tables) {
    ASSERT_TRUE(succeeded(add_copied_tables(session(), kSubscription, tables)));
  }

  Result<void> restart(const CopiedTable& table, const std::string& target) {
    return restart_copied_table(session(), kSubscription, table, {target});
  }

  void add_part(const std::string& subscription, const std::string& schema, const std::string& name,
                const std::string& numbers) const {
    execute(fmt::format("INSERT INTO bitacora.copied_parts VALUES ('{}', '{}', '{}', {})",
                        subscription, schema, name, numbers));
  }

  std::string parts_left() const { return value("SELECT count(*) FROM bitacora.copied_parts"); }
};

TEST_F(CopiedTablesTest, NothingIsNotedAtFirstAndWithoutTheTables) {
  EXPECT_TRUE(load().empty());
  execute("DROP SCHEMA bitacora CASCADE");
  EXPECT_TRUE(load().empty());
  const auto parts = load_copied_parts(session(), kSubscription, named("public", "t"));
  ASSERT_TRUE(succeeded(parts));
  EXPECT_TRUE(parts->empty());
}

TEST_F(CopiedTablesTest, MakesItsTablesOnce) {
  EXPECT_TRUE(succeeded(ensure_copied_tables(session())));
  const auto role = limited_role();
  auto limited = connect(role);
  EXPECT_TRUE(refused(load_copied_tables(limited, kSubscription), {"permission denied"}));
  execute(
      fmt::format("GRANT USAGE ON SCHEMA bitacora TO {0};"
                  "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA bitacora TO {0}",
                  role));
  EXPECT_TRUE(succeeded(ensure_copied_tables(limited)));
  EXPECT_TRUE(succeeded(add_copied_tables(limited, kSubscription, {named("public", "t")})));
  execute("DROP TABLE bitacora.copied_parts");
  EXPECT_TRUE(refused(ensure_copied_tables(limited),
                      {"bitacora.copied_parts", "GRANT CREATE ON SCHEMA bitacora TO"}));
  execute("DROP SCHEMA bitacora CASCADE");
  EXPECT_TRUE(refused(ensure_copied_tables(limited), {"CREATE SCHEMA bitacora AUTHORIZATION"}));
}

TEST_F(CopiedTablesTest, NotesTablesByTheirNamesInTheirOrder) {
  const std::string odd = "\"a\\\\,{}' Ñ";
  add({named("public", "z"), named("public", odd, ~0ul), named("Otra", "t")});
  ASSERT_TRUE(succeeded(add_copied_tables(session(), "otra", {named("public", "b")})));
  const auto tables = load();
  ASSERT_EQ(tables.size(), 3u);
  EXPECT_EQ(tables[0].schema, "Otra");
  EXPECT_EQ(tables[1].name, odd);
  EXPECT_EQ(tables[1].hold_lsn, MasterLsn{~0ul});
  EXPECT_EQ(tables[2].name, "z");
  EXPECT_FALSE(tables[2].copied);
  EXPECT_TRUE(tables[2].snapshot.empty());
  EXPECT_FALSE(tables[2].snapshot_lsn.valid());
  add({});
  EXPECT_EQ(load().size(), 3u);
}

TEST_F(CopiedTablesTest, TakesThousandsAtOnce) {
  std::vector<CopiedTable> tables;
  for (int i = 0; i < 20000; ++i) tables.push_back(named("public", fmt::format("t{:05}", i)));
  const auto begun = std::chrono::steady_clock::now();
  add(tables);
  EXPECT_EQ(load().size(), tables.size());
  add(tables);
  EXPECT_LT(std::chrono::steady_clock::now() - begun, std::chrono::seconds(20));
}

TEST_F(CopiedTablesTest, FollowsATableThroughItsCopy) {
  execute("CREATE TABLE t (a int); INSERT INTO t VALUES (1)");
  auto table = named("public", "t");
  add({table, named("public", "u")});
  add_part(kSubscription, "public", "t", "1, 0, 5, 10, 100");
  table.snapshot = "s1";
  table.snapshot_lsn = MasterLsn{42};
  ASSERT_TRUE(succeeded(restart(table, "public.t")));
  EXPECT_EQ(value("SELECT count(*) FROM t"), "0");
  EXPECT_EQ(parts_left(), "0");
  EXPECT_EQ(load()[0].snapshot, "s1");
  EXPECT_EQ(load()[0].snapshot_lsn, MasterLsn{42});
  EXPECT_EQ(load()[0].hold_lsn, MasterLsn{7});

  add_part(kSubscription, "public", "t", "4294967295, 5, 0, 10, 100");
  add_part(kSubscription, "public", "t", "1, 0, 4294967295, 1, 10");
  add_part("otra", "public", "t", "1, 0, 5, 9, 9");
  const auto parts = load_copied_parts(session(), kSubscription, table);
  ASSERT_TRUE(succeeded(parts));
  ASSERT_EQ(parts->size(), 2u);
  EXPECT_EQ(parts->front().end_page, 4294967295u);
  EXPECT_EQ(parts->back().piece, 4294967295u);
  EXPECT_EQ(parts->back().rows, 10u);

  ASSERT_TRUE(succeeded(finish_copied_table(session(), kSubscription, table)));
  const auto done = load()[0];
  EXPECT_TRUE(done.copied);
  EXPECT_EQ(done.rows, 11u);
  EXPECT_EQ(done.bytes, 110u);
  EXPECT_EQ(done.snapshot_lsn, MasterLsn{42});
  EXPECT_EQ(parts_left(), "1") << "another subscription's";
  EXPECT_EQ(value("SELECT count(*) FROM bitacora.copied_tables WHERE started_at < finished_at"),
            "1");
  EXPECT_FALSE(load()[1].copied);
}

TEST_F(CopiedTablesTest, WholeTablesRestartTogetherAndKeepTheirRows) {
  execute("CREATE TABLE t (a int); INSERT INTO t VALUES (1)");
  std::vector<CopiedTable> whole{named("public", "t"), named("public", "u")};
  add({whole[0], whole[1], named("public", "v")});
  for (const auto* name : {"t", "u", "v"})
    add_part(kSubscription, "public", name, "1, 0, 5, 10, 100");
  add_part("otra", "public", "t", "1, 0, 5, 9, 9");
  for (auto& table : whole) {
    table.snapshot = "s1";
    table.snapshot_lsn = MasterLsn{42};
  }
  ASSERT_TRUE(succeeded(restart_whole_tables(session(), kSubscription, whole)));
  EXPECT_EQ(value("SELECT count(*) FROM t"), "1");
  EXPECT_EQ(parts_left(), "2") << "of v, and another subscription's";
  for (const auto& table : load()) {
    EXPECT_EQ(table.snapshot, table.name == "v" ? "" : "s1");
    EXPECT_EQ(table.snapshot_lsn, MasterLsn{table.name == "v" ? 0u : 42u});
    EXPECT_EQ(table.hold_lsn, MasterLsn{7});
  }
  whole.push_back(named("public", "w"));
  EXPECT_TRUE(refused(restart_whole_tables(session(), kSubscription, whole), {"no row"}));
  EXPECT_TRUE(succeeded(restart_whole_tables(session(), kSubscription, {})));
}

TEST_F(CopiedTablesTest, AddedAgainItForgetsTheCopyBefore) {
  execute("CREATE TABLE t (a int)");
  auto table = named("public", "t");
  table.snapshot = "s1";
  table.snapshot_lsn = MasterLsn{42};
  add({table});
  ASSERT_TRUE(succeeded(restart(table, "public.t")));
  ASSERT_TRUE(succeeded(finish_copied_table(session(), kSubscription, table)));
  add_part(kSubscription, "public", "t", "1, 0, 5, 10, 100");
  add_part(kSubscription, "public", "u", "1, 0, 5, 10, 100");
  table.hold_lsn = MasterLsn{50};
  add({table});
  EXPECT_EQ(value("SELECT concat_ws('|', copied, hold_lsn, snapshot, snapshot_lsn, rows, bytes,"
                  " started_at, finished_at) FROM bitacora.copied_tables"),
            "f|0/32");
  EXPECT_EQ(parts_left(), "1");
}

TEST_F(CopiedTablesTest, IsPartOfTheCallersTransaction) {
  add({named("public", "kept")});
  ASSERT_TRUE(succeeded(session().query("test", "BEGIN")));
  add({named("public", "kept", 9), named("public", "t")});
  EXPECT_EQ(PQtransactionStatus(session().connection()), PQTRANS_INTRANS);
  roll_back(session());
  ASSERT_EQ(load().size(), 1u);
  EXPECT_EQ(load()[0].hold_lsn, MasterLsn{7});
}

TEST_F(CopiedTablesTest, GivesATableUp) {
  execute("CREATE TABLE t (a int); INSERT INTO t VALUES (1)");
  add({named("public", "t"), named("public", "u")});
  add_part(kSubscription, "public", "t", "1, 0, 5, 10, 100");
  auto given_up = named("public", "t");
  given_up.snapshot = "snapshot";
  given_up.snapshot_lsn = MasterLsn{42};
  ASSERT_TRUE(succeeded(give_up_copied_table(session(), kSubscription, given_up)));
  ASSERT_EQ(load().size(), 2u);
  EXPECT_TRUE(load()[0].copied);
  EXPECT_EQ(load()[0].rows, 0u);
  EXPECT_EQ(load()[0].snapshot_lsn, MasterLsn{42});
  EXPECT_FALSE(load()[1].copied);
  EXPECT_EQ(parts_left(), "0");
  EXPECT_EQ(value("SELECT count(*) FROM t"), "1") << "what is there stays";
}

TEST_F(CopiedTablesTest, ATableThatIsNotNotedIsNotRestarted) {
  execute("CREATE TABLE t (a int); INSERT INTO t VALUES (1)");
  EXPECT_TRUE(refused(restart(named("public", "t"), {"public.t"}), {"public.t", "no row"}));
  EXPECT_EQ(value("SELECT count(*) FROM t"), "1") << "emptied all the same";
  EXPECT_TRUE(
      refused(finish_copied_table(session(), kSubscription, named("public", "t")), {"no row"}));
}

// What the table to be emptied is; `kept` says what may not be touched.
TEST_F(CopiedTablesTest, EmptiesWhateverTableThereIs) {
  struct Case {
    const char* name;
    const char* make;
    const char* target;
    const char* kept = "SELECT 1";
  };
  for (const Case& c : {
           Case{"ordinary", "CREATE TABLE e.t (a int)", "e.t"},
           Case{"odd name", R"(CREATE TABLE e."T ""x" (a int))", R"("e"."T ""x")"},
           Case{"referenced, with the rows that refer",
                "CREATE TABLE e.t (a int PRIMARY KEY); CREATE TABLE e.r (a int REFERENCES e.t ON"
                " DELETE CASCADE); INSERT INTO e.t VALUES (1); INSERT INTO e.r VALUES (1)",
                "e.t", "SELECT count(*) FROM e.r"},
           Case{"with children of its own",
                "CREATE TABLE e.t (a int); CREATE TABLE e.c () INHERITS (e.t);"
                "INSERT INTO e.c VALUES (1)",
                "ONLY e.t", "SELECT count(*) FROM e.c"},
           Case{"referenced, with children of its own",
                "CREATE TABLE e.t (a int PRIMARY KEY); CREATE TABLE e.c () INHERITS (e.t);"
                "CREATE TABLE e.r (a int REFERENCES e.t); INSERT INTO e.c VALUES (1)",
                "ONLY e.t", "SELECT count(*) FROM e.c"},
           Case{"partitioned",
                "CREATE TABLE e.t (a int) PARTITION BY LIST (a);"
                "CREATE TABLE e.p PARTITION OF e.t DEFAULT",
                "e.t"},
           Case{"partitioned and referenced",
                "CREATE TABLE e.t (a int PRIMARY KEY) PARTITION BY LIST (a);"
                "CREATE TABLE e.p PARTITION OF e.t DEFAULT; CREATE TABLE e.r (a int REFERENCES"
                " e.t)",
                "e.t"},
       }) {
    SCOPED_TRACE(c.name);
    execute("DROP SCHEMA IF EXISTS e CASCADE; CREATE SCHEMA e;");
    execute(c.make);
    const std::string target = c.target;
    const auto plain = target.starts_with("ONLY ") ? target.substr(5) : target;
    execute(fmt::format("INSERT INTO {} VALUES (2), (3)", plain));
    add({named("public", "t")});
    ASSERT_TRUE(succeeded(restart(named("public", "t"), plain)));
    EXPECT_EQ(value("SELECT count(*) FROM " + target), "0");
    EXPECT_EQ(value(c.kept), "1");
  }
}

TEST_F(CopiedTablesTest, DeletesWhereItMayNotTruncate) {
  const auto role = limited_role();
  execute(fmt::format(
      "CREATE TABLE t (a int) PARTITION BY LIST (a); CREATE TABLE p PARTITION OF t DEFAULT;"
      "INSERT INTO t VALUES (1); GRANT USAGE ON SCHEMA bitacora, public TO {0};"
      "GRANT ALL ON ALL TABLES IN SCHEMA bitacora TO {0}; GRANT SELECT, DELETE ON t TO {0}",
      role));
  add({named("public", "t")});
  auto limited = connect(role);
  ASSERT_TRUE(
      succeeded(restart_copied_table(limited, kSubscription, named("public", "t"), {"public.t"})));
  EXPECT_EQ(value("SELECT count(*) FROM t"), "0");
  execute(fmt::format("REVOKE DELETE ON t FROM {}; INSERT INTO t VALUES (1)", role));
  EXPECT_TRUE(
      refused(restart_copied_table(limited, kSubscription, named("public", "t"), {"public.t"}),
              {"cannot empty public.t", "permission denied"}));
  EXPECT_EQ(PQtransactionStatus(limited.connection()), PQTRANS_IDLE);
}

}  // namespace
}  // namespace bitacora::apply
