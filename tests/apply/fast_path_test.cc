// The fast path on a real standby: what goes through it, what does not, and how its joins run.
// That it ends as the exact path does is shown by tests/equivalence.
#include "apply/fast_path.h"

#include <gtest/gtest.h>

#include "tests/apply/apply_fixture.h"

namespace bitacora::apply {
namespace {

constexpr const char* kTable = "CREATE TABLE t (id int PRIMARY KEY, v text, u int UNIQUE)";

void must(const Result<void>& result) { ASSERT_TRUE(result.ok()) << one_line(result.error()); }

ApplierOptions fast(std::size_t keys_max = 50'000) {
  ApplierOptions options;
  options.path = ApplyPath::kFast;
  options.fast.keys_max = keys_max;
  return options;
}

class FastPathTest : public ApplyTest {
 protected:
  // Of sessions that have ended: only then the server has counted them for certain.
  std::string scans(const std::string& table) const {
    return standby_value("SELECT seq_scan FROM pg_stat_user_tables WHERE relname = '" + table +
                         "'");
  }
};

TEST_F(FastPathTest, WritesWhatManyChangesComeTo) {
  PlayedMaster played(master());
  on_both(played, kTable);
  ApplySession session(standby(), fast());
  played.transaction({"INSERT INTO t SELECT i, 'x', i FROM generate_series(1, 1000) i"});
  played.transaction({"UPDATE t SET v = 'y' WHERE id > 500", "DELETE FROM t WHERE id <= 100"});
  must(session.take(played.take()));
  EXPECT_EQ(standby_value(
                "SELECT concat_ws('|', count(*), count(*) FILTER (WHERE v = 'y'), min(id)) FROM t"),
            "900|500|101");
  played.transaction({"UPDATE t SET v = 'z' WHERE id % 2 = 0", "DELETE FROM t WHERE id > 900",
                      "INSERT INTO t SELECT i, 'n', i FROM generate_series(950, 960) i"});
  must(session.take(played.take()));
  EXPECT_EQ(content("public.t"), harness::table_content(master(), "public.t"));
  EXPECT_EQ(progress(), lsn(played));
  EXPECT_EQ(standby_value("SELECT count(*) FROM pg_class WHERE relname LIKE 'bitacora_stage%'"
                          " AND relpersistence <> 't'"),
            "0");
}

// A transaction of more than is held back is written in parts, and still ends as a whole.
TEST_F(FastPathTest, WritesALargeTransactionInParts) {
  PlayedMaster played(master());
  on_both(played, kTable);
  {
    ApplySession session(standby(), fast(100));
    played.begin();
    for (int part = 0; part < 5; ++part) {
      const auto from = std::to_string(part * 200 + 1);
      const auto to = std::to_string(part * 200 + 200);
      played.change("INSERT INTO t SELECT i, 'x', i FROM generate_series(" + from + ", " + to +
                    ") i");
      played.change("UPDATE t SET v = 'y' WHERE id >= " + from);
      played.change("DELETE FROM t WHERE id = " + from);
      must(session.take(played.take()));
    }
    EXPECT_EQ(standby_value("SELECT count(*) FROM t"), "0");
    played.commit();
    must(session.take(played.take()));
  }
  EXPECT_EQ(
      standby_value("SELECT concat_ws('|', count(*), count(*) FILTER (WHERE v = 'y')) FROM t"),
      "995|995");
}

// Values that trade places under a second unique index fit one by one, not as a set: the refusal
// says from where on the exact path is to be taken, and nothing was written.
TEST_F(FastPathTest, RefusesWhatDoesNotFitAsASet) {
  PlayedMaster played(master());
  on_both(played, kTable);
  ApplySession session(standby(), fast());
  played.transaction({"INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2)"});
  must(session.take(played.take()));
  played.reconnect();
  played.transaction({"UPDATE t SET u = 3 WHERE id = 1", "UPDATE t SET u = 1 WHERE id = 2",
                      "UPDATE t SET u = 2 WHERE id = 1"});
  const auto batch = played.take();
  const auto before = progress();
  PathRefusal refusal;
  {
    ApplySession refusing(standby(), fast());
    const auto taken = refusing.take(batch);
    ASSERT_FALSE(taken.ok());
    ASSERT_TRUE(refusing.applier().refusal()) << one_line(taken.error());
    refusal = *refusing.applier().refusal();
    EXPECT_EQ(refusal.table, "public.t");
  }
  EXPECT_EQ(progress(), before);
  auto options = fast();
  options.exact_through = refusal.through;
  ApplySession exact(standby(), options);
  must(exact.take(batch));
  EXPECT_EQ(content("public.t"), "(1,a,2)\n(2,b,1)");
  EXPECT_FALSE(exact.applier().refusal());
  played.transaction({"UPDATE t SET v = 'c' WHERE id > 0"});
  must(exact.take(played.take()));
  EXPECT_EQ(content("public.t"), "(1,c,2)\n(2,c,1)");
}

// What fires once per row sees every row, in order.
TEST_F(FastPathTest, LeavesTablesWhoseTriggersFireToTheExactPath) {
  PlayedMaster played(master());
  on_both(played, kTable);
  on_standby(
      "CREATE TABLE seen (n serial, v text);"
      "CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
      " INSERT INTO public.seen (v) VALUES (NEW.v); RETURN NULL; END $$;"
      "CREATE TRIGGER see AFTER INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION see();"
      "ALTER TABLE t ENABLE ALWAYS TRIGGER see");
  ApplySession session(standby(), fast());
  played.transaction({"INSERT INTO t VALUES (1, 'a', 1)", "UPDATE t SET v = 'b' WHERE id = 1",
                      "UPDATE t SET v = 'c' WHERE id = 1"});
  must(session.take(played.take()));
  EXPECT_EQ(standby_value("SELECT string_agg(v, '' ORDER BY n) FROM seen"), "abc");
}

// A few rows of a large table are found by its index, many by one scan.
TEST_F(FastPathTest, JoinsByIndexOrByScan) {
  constexpr const char* kLarge =
      "CREATE TABLE large (id int PRIMARY KEY, v text);"
      "INSERT INTO large SELECT i, 'x' FROM generate_series(1, 50000) i";
  PlayedMaster played(master());
  on_both(played, kLarge);
  const auto scans_before = scans("large");
  played.transaction({"UPDATE large SET v = 'y' WHERE id <= 500"});
  played.transaction({"DELETE FROM large WHERE id BETWEEN 600 AND 900"});
  must(ApplySession(standby(), fast()).take(played.take()));
  EXPECT_EQ(scans("large"), scans_before);
  played.reconnect();
  played.transaction({"UPDATE large SET v = 'z' WHERE id > 1000"});
  must(ApplySession(standby(), fast()).take(played.take()));
  // A session tells its statistics when it ends, which is a moment later.
  EXPECT_TRUE(harness::eventually([&] { return scans("large") != scans_before; }));
  EXPECT_EQ(standby_value("SELECT concat_ws('|', count(*) FILTER (WHERE v = 'y'), count(*) FILTER "
                          "(WHERE v = 'z'), count(*)) FROM large"),
            "500|49000|49699");
}

}  // namespace
}  // namespace bitacora::apply
