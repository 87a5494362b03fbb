// What the standby does not take: the error names the row, and nothing of the group is committed.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/apply/apply_fixture.h"

namespace bitacora::apply {
namespace {

constexpr const char* kTable = "CREATE TABLE t (id int PRIMARY KEY, v text)";
enum class Way { kOneTrip, kTwoTrips, kFast };
constexpr Way kWays[] = {Way::kOneTrip, Way::kTwoTrips, Way::kFast};

void must(const Result<void>& result) { ASSERT_TRUE(result.ok()) << one_line(result.error()); }

void expect_error(const Result<void>& result, ErrorCode code,
                  const std::vector<std::string>& named) {
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, code) << one_line(result.error());
  for (const auto& part : named) {
    EXPECT_NE(one_line(result.error()).find(part), std::string::npos)
        << one_line(result.error()) << "\ndoes not name: " << part;
  }
}

class ApplierFailures : public ApplyTest {
 protected:
  static ApplierOptions options_of(Way way) {
    ApplierOptions options;
    if (way == Way::kTwoTrips) options.one_trip_rows_max = 0;
    options.path = way == Way::kFast ? ApplyPath::kFast : ApplyPath::kExact;
    return options;
  }

  // As the receiver does: what the fast path refuses is tried once more by the exact one.
  Result<void> take(const Applier::Batch& batch, Way way) const {
    auto options = options_of(way);
    std::optional<ApplySession> session(std::in_place, standby(), options);
    auto taken = session->take(batch);
    const auto refusal = session->applier().refusal();
    session.reset();
    EXPECT_EQ(refusal.has_value(), way == Way::kFast);
    if (!refusal) return taken;
    options.exact_through = refusal->through;
    ApplySession exact(standby(), options);
    taken = exact.take(batch);
    EXPECT_FALSE(exact.applier().refusal());
    return taken;
  }
};

struct Case {
  const char* name;
  const char* setup;
  std::vector<std::string> rows;  // applied first
  const char* drift;              // then done on the standby
  const char* change;             // and refused
  std::vector<std::string> named;
};

const std::vector<Case>& refused() {
  constexpr const char* kKeyed = "CREATE TABLE t (id int, r text, v text, PRIMARY KEY (id, r))";
  constexpr const char* kWhole =
      "CREATE TABLE t (a int, b json); ALTER TABLE t REPLICA IDENTITY FULL";
  constexpr const char* kAlways =
      "CREATE TABLE t (id int PRIMARY KEY, s int GENERATED ALWAYS AS IDENTITY)";
  static const std::vector<Case> kCases = {
      {"UPDATE of no row",
       kKeyed,
       {"INSERT INTO t VALUES (7, 'eu', 'x')"},
       "DELETE FROM t",
       "UPDATE t SET v = 'y' WHERE id = 7",
       {"UPDATE of public.t", "no row with (id, r)=(7, eu)", "somebody else changed public.t"}},
      {"key change of no row",
       kKeyed,
       {"INSERT INTO t VALUES (7, 'eu', 'x')"},
       "DELETE FROM t",
       "UPDATE t SET id = 8 WHERE id = 7",
       {"UPDATE of public.t", "no row with (id, r)=(7, eu)"}},
      {"DELETE of no row",
       kKeyed,
       {"INSERT INTO t VALUES (7, 'eu', 'x')"},
       "DELETE FROM t",
       "DELETE FROM t WHERE id = 7",
       {"DELETE from public.t", "no row with (id, r)=(7, eu)"}},
      {"DELETE of no row, found whole",
       kWhole,
       {"INSERT INTO t VALUES (7, '{\"a\": 1}')"},
       "UPDATE t SET b = '{\"a\": 2}'",
       "DELETE FROM t WHERE a = 7",
       {"DELETE from public.t", "no row with (a, b)=(7, {\"a\": 1})"}},
      {"replacement of no row",
       kAlways,
       {"INSERT INTO t VALUES (7, DEFAULT)"},
       "DELETE FROM t",
       "UPDATE t SET s = DEFAULT WHERE id = 7",
       {"UPDATE of public.t", "no row with (id)=(7)"}},
      {"INSERT of a row that is there",
       kKeyed,
       {"INSERT INTO t VALUES (1, 'eu', 'x')"},
       "INSERT INTO t VALUES (7, 'eu', 'suyo')",
       "INSERT INTO t VALUES (7, 'eu', 'x')",
       {"INSERT into public.t", "a row is already there", "(id, r)=(7, eu)"}},
      {"a constraint of the standby's own",
       kKeyed,
       {},
       "ALTER TABLE t ADD CONSTRAINT corto CHECK (length(v) < 3)",
       "INSERT INTO t VALUES (7, 'eu', 'largo')",
       {"INSERT into public.t", "corto", "it continues with this row"}},
      {"no such table",
       kKeyed,
       {},
       "DROP TABLE t",
       "INSERT INTO t VALUES (7, 'eu', 'x')",
       {"no table public.t", "pg_dump"}},
      {"no such column",
       kKeyed,
       {},
       "ALTER TABLE t DROP v",
       "INSERT INTO t VALUES (7, 'eu', 'x')",
       {"standby table public.t", "no column v", "ADD COLUMN v"}},
  };
  return kCases;
}

// Between good rows of the same transaction and after another transaction of the same group.
TEST_F(ApplierFailures, NameTheRowAndCommitNothingOfTheGroup) {
  for (const Case& c : refused()) {
    for (const Way way : kWays) {
      SCOPED_TRACE(fmt::format("{}, way {}", c.name, static_cast<int>(way)));
      clear();
      PlayedMaster played(master());
      on_both(played, c.setup);
      on_both(played, "CREATE TABLE good (id int PRIMARY KEY)");
      {
        ApplySession session(standby());
        played.transaction(c.rows);
        must(session.take(played.take()));
      }
      on_standby(c.drift);
      const auto before = progress();
      played.reconnect();
      played.transaction({"INSERT INTO good VALUES (1)"});
      played.transaction({"INSERT INTO good VALUES (2)", c.change, "INSERT INTO good VALUES (3)"});
      const auto taken = take(played.take(), way);
      expect_error(taken, ErrorCode::kStandby, c.named);
      EXPECT_FALSE(taken.ok() || taken.error().heals());
      EXPECT_EQ(content("public.good"), "");
      EXPECT_EQ(progress(), before);
    }
  }
}

// More rows than one trip takes: many replies are read before the missing row's.
TEST_F(ApplierFailures, OfAMissingRowAmongThousandsCommitNothing) {
  constexpr int kRows = 5000;
  PlayedMaster played(master());
  on_both(played, kTable);
  ApplySession session(standby(), options_of(Way::kTwoTrips));
  played.transaction(
      {fmt::format("INSERT INTO t SELECT i, 'x' FROM generate_series(1, {}) i", kRows)});
  must(session.take(played.take()));
  EXPECT_EQ(session.applier().counts().rows, static_cast<std::uint64_t>(kRows));
  on_standby("DELETE FROM t WHERE id = 2345");
  const auto before = progress();
  played.transaction({"UPDATE t SET v = 'y' WHERE id > 0"});
  expect_error(session.take(played.take()), ErrorCode::kStandby, {"no row with (id)=(2345)"});
  EXPECT_EQ(progress(), before);
  EXPECT_EQ(standby_value("SELECT count(*) FROM t WHERE v = 'y'"), "0");
}

TEST_F(ApplierFailures, OfSeveralRowsInsteadOfOne) {
  for (const Way way : {Way::kOneTrip, Way::kTwoTrips}) {
    SCOPED_TRACE(static_cast<int>(way));
    clear();
    PlayedMaster played(master());
    played.execute(kTable);
    on_standby("CREATE TABLE t (id int, v text); INSERT INTO t VALUES (1, 'a')");
    ApplySession session(standby(), options_of(way));
    played.transaction({"INSERT INTO t VALUES (1, 'a')", "UPDATE t SET v = 'b' WHERE id = 1"});
    expect_error(session.take(played.take()), ErrorCode::kStandby,
                 {"UPDATE of public.t", "(id)=(1)"});
    EXPECT_EQ(content("public.t"), "(1,a)");
  }
}

TEST_F(ApplierFailures, OfAProgressRowThatSomebodyElseMoved) {
  for (const Way way : {Way::kOneTrip, Way::kTwoTrips}) {
    for (const char* moved :
         {"UPDATE bitacora.progress SET applied_lsn = '0/1'", "DELETE FROM bitacora.progress"}) {
      SCOPED_TRACE(fmt::format("{}, way {}", moved, static_cast<int>(way)));
      clear();
      PlayedMaster played(master());
      on_both(played, kTable);
      ApplySession session(standby(), options_of(way));
      on_standby(moved);
      played.transaction({"INSERT INTO t VALUES (1, 'a')"});
      expect_error(session.take(played.take()), ErrorCode::kState, {kSubscription, "--name"});
      EXPECT_EQ(content("public.t"), "");
    }
  }
}

TEST_F(ApplierFailures, OfBatchesThatBreakTheRules) {
  const auto with = [](const std::function<void(pb::ChangeBatch&)>& fill) {
    auto batch = std::make_shared<pb::ChangeBatch>();
    fill(*batch);
    return batch;
  };
  struct Broken {
    const char* name;
    std::function<void(pb::ChangeBatch&)> fill;
    ErrorCode code;
  };
  const auto begin = [](pb::ChangeBatch& b) {
    b.add_parts()->mutable_begin()->set_commit_lsn(PlayedMaster::kStart.value + 8);
  };
  for (const Broken& c : {
           Broken{"empty part", [](pb::ChangeBatch& b) { b.add_parts(); }, ErrorCode::kNetwork},
           Broken{"begin in a transaction", [&](pb::ChangeBatch& b) { begin(b), begin(b); },
                  ErrorCode::kNetwork},
           Broken{"an idle position in a transaction",
                  [&](pb::ChangeBatch& b) {
                    begin(b);
                    b.add_parts()->mutable_idle_position()->set_lsn(PlayedMaster::kStart.value + 9);
                  },
                  ErrorCode::kNetwork},
           Broken{"commit without begin",
                  [](pb::ChangeBatch& b) { b.add_parts()->mutable_commit(); }, ErrorCode::kNetwork},
           Broken{"a commit that ends before its record",
                  [&](pb::ChangeBatch& b) {
                    begin(b);
                    b.add_parts()->mutable_commit()->set_end_lsn(1);
                  },
                  ErrorCode::kNetwork},
           Broken{"rows outside a transaction",
                  [](pb::ChangeBatch& b) { b.add_parts()->mutable_rows(); }, ErrorCode::kNetwork},
           Broken{"rows of an undescribed relation",
                  [&](pb::ChangeBatch& b) {
                    begin(b);
                    b.add_parts()->mutable_rows()->set_relation_oid(77);
                  },
                  ErrorCode::kMaster},
       }) {
    SCOPED_TRACE(c.name);
    ApplySession session(standby());
    expect_error(session.take(with(c.fill)), c.code, {});
  }
}

// Where the standby's backend dies: by a trigger, in the middle of one statement of the group.
struct Death {
  const char* name;
  const char* trigger;
};
constexpr Death kDeaths[] = {
    {"first row", "CREATE TRIGGER die BEFORE INSERT ON t FOR EACH ROW WHEN (NEW.id = 1)"},
    {"a row in the middle", "CREATE TRIGGER die BEFORE INSERT ON t FOR EACH ROW WHEN (NEW.id = 2)"},
    {"update", "CREATE TRIGGER die BEFORE UPDATE ON t FOR EACH ROW WHEN (NEW.v = 'y')"},
    {"delete", "CREATE TRIGGER die AFTER DELETE ON t FOR EACH ROW WHEN (OLD.id = 1)"},
    {"truncate", "CREATE TRIGGER die AFTER TRUNCATE ON u FOR EACH STATEMENT"},
    {"progress", "CREATE TRIGGER die AFTER UPDATE ON bitacora.progress FOR EACH ROW"},
    {"commit",
     "CREATE CONSTRAINT TRIGGER die AFTER UPDATE ON bitacora.progress DEFERRABLE"
     " INITIALLY DEFERRED FOR EACH ROW"},
};

std::string deadly(const Death& death) {
  const std::string trigger = death.trigger;
  const auto on = trigger.find(" ON ") + 4;
  const auto table = trigger.substr(on, trigger.find(' ', on) - on);
  return fmt::format(
      "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM"
      " pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(10); RETURN NULL; END $$;"
      "{} EXECUTE FUNCTION die(); ALTER TABLE {} ENABLE ALWAYS TRIGGER die",
      trigger, table);
}

class ApplierDeath : public ApplierFailures {
 protected:
  static PlayedMaster::Batch group(PlayedMaster& played) {
    played.transaction({"INSERT INTO t VALUES (1, 'x')", "INSERT INTO t VALUES (2, 'x')"});
    played.begin();
    played.change("UPDATE t SET v = 'y' WHERE id = 2");
    played.change("DELETE FROM t WHERE id = 1");
    played.truncate({"u"});
    played.commit();
    return played.take();
  }

  void expect_healed(PlayedMaster& played, const PlayedMaster::Batch& batch) const {
    ApplySession session(standby());
    must(session.take(batch));
    EXPECT_EQ(content("public.t"), "(2,y)");
    EXPECT_EQ(content("public.u"), "");
    EXPECT_EQ(progress(), lsn(played));
  }
};

TEST_F(ApplierDeath, OfTheConnectionAtAnyStatementLeavesNothingHalfApplied) {
  for (const Death& death : kDeaths) {
    for (const Way way : {Way::kOneTrip, Way::kTwoTrips}) {
      SCOPED_TRACE(fmt::format("{}, way {}", death.name, static_cast<int>(way)));
      clear();
      PlayedMaster played(master());
      on_both(played, std::string(kTable) + "; CREATE TABLE u (a int); INSERT INTO u VALUES (1)");
      const auto batch = group(played);
      {
        ApplySession session(standby(), options_of(way));
        on_standby(deadly(death));
        const auto taken = session.take(batch);
        expect_error(taken, ErrorCode::kStandby, {});
        EXPECT_TRUE(taken.ok() || taken.error().heals()) << one_line(taken.error());
      }
      EXPECT_EQ(content("public.t"), "");
      EXPECT_EQ(content("public.u"), "(1)");
      EXPECT_EQ(progress(), to_string(PlayedMaster::kStart));
      on_standby("DROP FUNCTION die CASCADE");
      expect_healed(played, batch);
    }
  }
}

TEST_F(ApplierDeath, OfTheConnectionBetweenTwoBatches) {
  for (const int killed_before : {0, 1, 2}) {
    SCOPED_TRACE(killed_before);
    clear();
    PlayedMaster played(master());
    on_both(played, kTable);
    std::vector<PlayedMaster::Batch> batches;
    played.begin();
    for (const int id : {1, 2, 3}) {
      played.change(fmt::format("INSERT INTO t VALUES ({}, 'x')", id));
      if (id == 3) played.commit();
      batches.push_back(played.take());
    }
    {
      ApplySession session(standby());
      Result<void> taken;
      for (int i = 0; i < 3 && taken.ok(); ++i) {
        if (i == killed_before) {
          on_standby(fmt::format("SELECT pg_terminate_backend({}, 10000)", session.backend_pid()));
        }
        taken = session.take(batches[static_cast<std::size_t>(i)]);
      }
      expect_error(taken, ErrorCode::kStandby, {});
      EXPECT_TRUE(taken.ok() || taken.error().heals()) << one_line(taken.error());
    }
    EXPECT_EQ(content("public.t"), "");
    ApplySession session(standby());
    for (const auto& batch : batches) must(session.take(batch));
    EXPECT_EQ(content("public.t"), "(1,x)\n(2,x)\n(3,x)");
  }
}

}  // namespace
}  // namespace bitacora::apply
