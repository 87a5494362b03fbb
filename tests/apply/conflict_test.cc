// Conflicts beyond the plain ones: other indexes, partitions, no key, what cannot be resolved, many
// of them, and how the table gets back to the faster paths.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "apply/conflict_log.h"
#include "tests/apply/conflict_session.h"

namespace bitacora::apply {
namespace {

void must(const Result<void>& result) { ASSERT_TRUE(result.ok()) << one_line(result.error()); }

// Schema, first rows on both sides, drift, change, what is left.
struct Case {
  const char* name;
  const char* table;
  const char* first;
  const char* drift;
  const char* change;
  const char* rows;
  const char* types;  // of the conflicts, in order
};

class Conflict : public ConflictTest {
 protected:
  void begin(PlayedMaster& played, const Case& c) {
    on_both(played, c.table);
    if (*c.first == '\0') return;
    played.transaction({c.first});
    must(take(played.take(), options(Way::kOneTrip, {})));
    played.reconnect();
  }
  std::string types() const {
    return standby_value(
        "SELECT string_agg(conflict_type, ' ' ORDER BY id) FROM bitacora.conflicts");
  }
};

TEST_F(Conflict, OverwritesUnderEveryIndex) {
  for (const Case& c : {
           Case{"expression and predicate",
                "CREATE TABLE t (id int PRIMARY KEY, v text, live bool);"
                "CREATE UNIQUE INDEX ON t (lower(v)) WHERE live",
                "", "INSERT INTO t VALUES (1, 'ANA', true), (2, 'eva', false)",
                "INSERT INTO t VALUES (3, 'ana', true), (4, 'eva', true)",
                "(2,eva,f) (3,ana,t) (4,eva,t)", "insert_exists"},
           Case{"exclusion constraint",
                "CREATE TABLE t (id int PRIMARY KEY, r int4range, EXCLUDE USING gist (r WITH &&))",
                "", "INSERT INTO t VALUES (1, '[1,5)'), (2, '[5,9)'), (3, '[20,30)')",
                "INSERT INTO t VALUES (4, '[4,6)')", "(3,\"[20,30)\") (4,\"[4,6)\")",
                "insert_exists"},
           Case{"partitions", "CREATE TABLE t (id int PRIMARY KEY, v text)", "",
                "DROP TABLE t;"
                "CREATE TABLE t (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);"
                "CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (10);"
                "CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (10) TO (20);"
                "CREATE UNIQUE INDEX ON t_1 (v);"
                "INSERT INTO t VALUES (1, 'a'), (2, 'b'), (11, 'c')",
                "INSERT INTO t VALUES (3, 'b'), (11, 'd'), (12, 'd')", "(1,a) (11,d) (12,d) (3,b)",
                "insert_exists insert_exists"},
           Case{"no key on the master",
                "CREATE TABLE t (a int, b text, UNIQUE (b)); ALTER TABLE t REPLICA IDENTITY FULL",
                "INSERT INTO t VALUES (1, 'x'), (2, 'y')",
                "DELETE FROM t WHERE a = 1; INSERT INTO t VALUES (9, 'z')",
                "UPDATE t SET b = 'z' WHERE a = 1", "(1,z) (2,y)", "update_missing"},
       }) {
    SCOPED_TRACE(c.name);
    begin_anew();
    PlayedMaster played(master());
    ASSERT_NO_FATAL_FAILURE(begin(played, c));
    const auto with = options(Way::kGrouped, {"public.*=overwrite"});
    on_standby(c.drift);
    played.transaction({c.change});
    must(take(played.take(), with));
    EXPECT_EQ(rows("t"), c.rows);
    EXPECT_EQ(types(), c.types) << logged();
  }
}

// What only the standby has in a row stays there; what the master cannot know is not made up.
TEST_F(Conflict, OverwriteKeepsColumnsOfTheStandby) {
  PlayedMaster played(master());
  on_both(played, "CREATE TABLE t (id int PRIMARY KEY, v text)");
  on_standby("ALTER TABLE t ADD note text; INSERT INTO t VALUES (1, 'local', 'ours')");
  played.transaction({"INSERT INTO t VALUES (1, 'remote')"});
  must(take(played.take(), options(Way::kOneTrip, {"t=overwrite"})));
  EXPECT_EQ(rows("t"), "(1,remote,ours)");
}

TEST_F(Conflict, OverwriteWithoutTheWholeRow) {
  const std::string setup = "CREATE TABLE t (id int PRIMARY KEY, v text, big text)";
  PlayedMaster played(master());
  played.toast("big");
  on_both(played, setup);
  played.transaction({"INSERT INTO t VALUES (1, 'x', 'long')"});
  must(take(played.take(), options(Way::kOneTrip, {})));
  played.reconnect();
  on_standby("DELETE FROM t");
  played.transaction({"UPDATE t SET v = 'y' WHERE id = 1"});
  const auto batch = played.take();
  const auto refused = take(batch, options(Way::kOneTrip, {"t=overwrite"}));
  ASSERT_FALSE(refused.ok());
  for (const char* word : {"public.t", "(id)=(1)", "column big", "REPLICA IDENTITY FULL"})
    EXPECT_NE(one_line(refused.error()).find(word), std::string::npos) << one_line(refused.error());
  must(take(batch, options(Way::kOneTrip, {"t=keep"})));
  EXPECT_EQ(standby_value("SELECT remote_row FROM bitacora.conflicts"),
            R"({"v": "y", "id": 1, "big": {"unchanged_toast": true}})");
}

TEST_F(Conflict, SkipTakesAlsoWhatTheRowIsRefusedFor) {
  for (const char* policy : {"keep", "overwrite", "skip"}) {
    for (const Way way : kWays) {
      SCOPED_TRACE(std::string(policy) + ", " + name_of(way));
      begin_anew();
      PlayedMaster played(master());
      on_both(played, "CREATE TABLE t (id int PRIMARY KEY, v int)");
      on_standby("ALTER TABLE t ADD CHECK (v < 5)");
      played.transaction({"INSERT INTO t VALUES (1, 1), (2, 9), (3, 3)"});
      const auto taken = take(played.take(), options(way, {std::string("t=") + policy}));
      const bool skips = std::string(policy) == "skip";
      ASSERT_EQ(taken.ok(), skips);
      EXPECT_EQ(rows("t"), skips ? "(1,1) (3,3)" : "");
      EXPECT_EQ(types(), skips ? "row_refused" : "");
      if (!skips) {
        EXPECT_NE(taken.error().message.find("t_v_check"), std::string::npos);
      }
    }
  }
}

// A value that cannot even be read by the standby.
TEST_F(Conflict, SkipTakesAnUnreadableValue) {
  PlayedMaster played(master());
  played.execute("CREATE TABLE t (id int PRIMARY KEY, v text)");
  on_standby("CREATE TABLE t (id int PRIMARY KEY, v int)");
  played.transaction({"INSERT INTO t VALUES (1, '1'), (2, 'two'), (3, '3')"});
  must(take(played.take(), options(Way::kGrouped, {"t=skip"})));
  EXPECT_EQ(rows("t"), "(1,1) (3,3)");
  EXPECT_EQ(types(), "row_refused");
}

// Tables are changed by turns, in one transaction: the rows of each end up as on the master.
TEST_F(Conflict, ManyAmongMany) {
  for (const Way way : kWays) {
    SCOPED_TRACE(name_of(way));
    begin_anew();
    PlayedMaster played(master());
    on_both(
        played,
        "CREATE TABLE t (id int PRIMARY KEY, v int); CREATE TABLE o (id int PRIMARY KEY, v int)");
    on_standby("INSERT INTO t SELECT i, -i FROM generate_series(10, 2000, 10) i");
    const auto with = options(way, {"t=overwrite"});
    for (int i = 0; i < 20; ++i) {
      const auto range = fmt::format("generate_series({}, {}) i", i * 100 + 1, i * 100 + 100);
      played.transaction({"INSERT INTO t SELECT i, i FROM " + range,
                          "INSERT INTO o SELECT i, i FROM " + range,
                          fmt::format("UPDATE t SET v = v + 1 WHERE id = {}", i * 100 + 50),
                          fmt::format("DELETE FROM t WHERE id = {}", i * 100 + 60)});
    }
    must(take(played.take(), with));
    EXPECT_EQ(content("public.t"), harness::table_content(master(), "public.t"));
    EXPECT_EQ(content("public.o"), harness::table_content(master(), "public.o"));
    EXPECT_EQ(standby_value("SELECT count(*) FROM bitacora.conflicts"), "200");
    EXPECT_EQ(standby_value("SELECT string_agg(DISTINCT conflict_type, ' ') FROM"
                            " bitacora.conflicts"),
              "insert_exists");
    EXPECT_EQ(progress(), lsn(played));
    EXPECT_EQ(sessions(), 2);
  }
}

// Behind the transaction that was refused the table is written as ever, and refused again.
TEST_F(Conflict, TheNormalPathTakesOverAgain) {
  for (const Way way : kWays) {
    SCOPED_TRACE(name_of(way));
    begin_anew();
    PlayedMaster played(master());
    on_both(played, "CREATE TABLE t (id int PRIMARY KEY, v int)");
    on_standby("INSERT INTO t VALUES (2, 0)");
    auto with = options(way, {"t=keep"});
    with.careful_tables["public.t"] = {PlayedMaster::kStart, {}};
    played.transaction({"INSERT INTO t VALUES (1, 1)"});
    played.transaction({"INSERT INTO t VALUES (2, 2)"});
    ApplySession session(standby(), with);
    ASSERT_FALSE(session.take(played.take()).ok());
    ASSERT_TRUE(session.applier().refusal());
    EXPECT_TRUE(session.applier().refusal()->careful);
    EXPECT_EQ(session.applier().refusal()->table, "public.t");
  }
}

// After a conflict its table is written with care for a while: further ones cost no session.
TEST_F(Conflict, StaysCarefulForAWhile) {
  PlayedMaster played(master());
  on_both(played, "CREATE TABLE t (id int PRIMARY KEY, v int)");
  on_standby("INSERT INTO t VALUES (1, 0), (2, 0)");
  auto with = options(Way::kGrouped, {"t=keep"});
  played.transaction({"INSERT INTO t VALUES (1, 1)"});
  with.careful_tables["public.t"] = {played.end(), {}};  // but no longer
  ApplySession session(standby(), with);
  must(session.take(played.take()));
  for (int i = 0; i < 3; ++i) played.idle();
  played.transaction({"INSERT INTO t VALUES (2, 2)"});
  must(session.take(played.take()));
  EXPECT_EQ(session.applier().counts().conflicts, 2u);
  EXPECT_EQ(rows("t"), "(1,0) (2,0)");
}

// To measure: --gtest_also_run_disabled_tests.
TEST_F(Conflict, DISABLED_RowsPerSecond) {
  for (const int conflicts_in_100 : {0, 10}) {
    for (const char* policy : {"keep", "overwrite"}) {
      for (const bool careful : {false, true}) {
        if (!careful && conflicts_in_100 > 0) continue;
        begin_anew();
        PlayedMaster played(master());
        on_both(played, "CREATE TABLE t (id int PRIMARY KEY, v text, u int UNIQUE)");
        if (conflicts_in_100 > 0)
          on_standby("INSERT INTO t SELECT i, 'local', i FROM generate_series(10, 50000, 10) i");
        for (int i = 0; i < 100; ++i)
          played.transaction(
              {fmt::format("INSERT INTO t SELECT i, 'remote', i FROM generate_series({}, {}) i",
                           i * 500 + 1, i * 500 + 500)});
        auto with = options(Way::kGrouped, {std::string("t=") + policy});
        const auto now = std::chrono::steady_clock::now();
        if (careful) with.careful_tables["public.t"] = {{}, now + kCarefulTime};
        const auto batch = played.take();
        ApplySession session(standby(), with);
        const auto began = std::chrono::steady_clock::now();
        must(session.take(batch));
        const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
        fmt::print("{} of 100 in conflict, {}, {}: {:.0f} rows/s\n", conflicts_in_100, policy,
                   careful ? "careful path" : "exact path", 50'000 / took.count());
      }
    }
  }
}

// The last rule that matches decides.
TEST_F(Conflict, TheLastRuleDecides) {
  const auto rules = policies({"*.*=keep", "s.*=overwrite", "s.t=error"});
  EXPECT_EQ(rules.of("public", "t"), ConflictPolicy::kKeep);
  EXPECT_EQ(rules.of("s", "u"), ConflictPolicy::kOverwrite);
  EXPECT_EQ(rules.of("s", "t"), ConflictPolicy::kError);
  EXPECT_TRUE(rules.resolves_any());
  EXPECT_FALSE(policies({"*.*=error"}).resolves_any());
}

// A role that may not create it works when somebody else has.
TEST_F(Conflict, TheTableNeedsNoRightToCreateIt) {
  on_standby(
      "DROP ROLE IF EXISTS conflict_writer; CREATE ROLE conflict_writer LOGIN;"
      "GRANT USAGE ON SCHEMA bitacora TO conflict_writer;"
      "GRANT SET ON PARAMETER session_replication_role TO conflict_writer");
  auto session = StandbySession::connect(standby() + " user=conflict_writer", "conflict test");
  ASSERT_TRUE(session.ok()) << one_line(session.error());
  const auto refused = ensure_conflict_table(*session);
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(one_line(refused.error()).find("GRANT INSERT ON bitacora.conflicts"),
            std::string::npos);
  on_standby("GRANT INSERT ON bitacora.conflicts TO conflict_writer");
  must(ensure_conflict_table(*session));
  on_standby("DROP OWNED BY conflict_writer; DROP ROLE conflict_writer");
}

}  // namespace
}  // namespace bitacora::apply
