// What the master's constraints, triggers and transactions did is in the rows already: the standby
// neither repeats nor refuses it.
#include <gtest/gtest.h>

#include "tests/engine/table_life.h"
#include "tests/postgres/database.h"
#include "tests/postgres/pair.h"

namespace bitacora::harness {
namespace {

std::vector<TableLife> constraints() {
  const std::string family =
      "CREATE TABLE parent (id int PRIMARY KEY);"
      "CREATE TABLE child (id int PRIMARY KEY, parent int, CONSTRAINT fk FOREIGN KEY (parent)"
      " REFERENCES parent ON DELETE CASCADE ON UPDATE CASCADE DEFERRABLE)";
  const std::vector<std::string> both = {"parent", "child"};
  return {
      {"a deferrable key swapped",
       "CREATE TABLE t (id int PRIMARY KEY, n int UNIQUE DEFERRABLE INITIALLY DEFERRED, v text)",
       {"INSERT INTO t SELECT i, i, 'v' FROM generate_series(1, 6) i",
        "UPDATE t SET n = 3 - n WHERE id < 3",
        "BEGIN; UPDATE t SET n = 4 WHERE id = 3; UPDATE t SET n = 3 WHERE id = 4; COMMIT",
        "UPDATE t SET n = n + 1"}},
      {"the deferrable primary key shifted",
       "CREATE TABLE t (id int PRIMARY KEY DEFERRABLE, k int NOT NULL UNIQUE, v text);"
       "ALTER TABLE t REPLICA IDENTITY USING INDEX t_k_key",
       {"INSERT INTO t SELECT i, i, 'v' FROM generate_series(1, 6) i", "UPDATE t SET id = id + 1"}},
      {"an immediate second key handed on",
       "CREATE TABLE t (id int PRIMARY KEY, u text UNIQUE)",
       {"INSERT INTO t SELECT i, 'u' || i FROM generate_series(1, 6) i",
        "BEGIN; UPDATE t SET u = NULL WHERE id = 1; UPDATE t SET u = 'u1' WHERE id = 2;"
        " UPDATE t SET u = 'u2' WHERE id = 1; COMMIT",
        "BEGIN; DELETE FROM t WHERE id = 3; INSERT INTO t VALUES (7, 'u3'); COMMIT",
        "BEGIN; UPDATE t SET u = 'free' WHERE id = 4; INSERT INTO t VALUES (8, 'u4');"
        " DELETE FROM t WHERE id = 8; UPDATE t SET u = 'u4' WHERE id = 5; COMMIT"}},
      {"an exclusion constraint",
       "CREATE TABLE t (id int PRIMARY KEY, r int4range, EXCLUDE USING gist (r WITH &&))",
       {"INSERT INTO t VALUES (1, '[1,5)'), (2, '[5,9)')",
        "BEGIN; UPDATE t SET r = '[1,3)' WHERE id = 1; UPDATE t SET r = '[3,9)' WHERE id = 2;"
        " COMMIT"}},
      {"the child before its parent",
       family,
       {"BEGIN; SET CONSTRAINTS ALL DEFERRED; INSERT INTO child VALUES (1, 10), (2, 20);"
        " INSERT INTO parent VALUES (10), (20); COMMIT"},
       both},
      {"a cascade is not repeated",
       family,
       {"INSERT INTO parent VALUES (1), (2), (3)",
        "INSERT INTO child VALUES (1, 1), (2, 2), (3, 3)", "DELETE FROM parent WHERE id = 1",
        "UPDATE parent SET id = 20 WHERE id = 2"},
       both},
      {"a cascade that only the standby knows",
       "CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (id int PRIMARY KEY, parent "
       "int)",
       {"INSERT INTO parent VALUES (1), (2)", "INSERT INTO child VALUES (1, 1), (2, 2), (3, 99)",
        "DELETE FROM parent WHERE id = 1"},
       both,
       family},
      {"rows that reference themselves",
       "CREATE TABLE t (id int PRIMARY KEY, up int REFERENCES t ON DELETE SET NULL)",
       {"INSERT INTO t VALUES (2, 2), (1, 2), (3, 1)", "DELETE FROM t WHERE id = 1"}},
  };
}

TABLE_LIFE(TableLifeConstraints, constraints)

// Writes down who fired; `t_stamp` also changes the row.
std::string triggers(const std::string& mode) {
  return "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE log (what text);"
         "CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS"
         " $$ BEGIN INSERT INTO log VALUES (TG_OP); IF TG_OP = 'DELETE' THEN RETURN OLD; END IF;"
         " NEW.v := NEW.v || '*'; RETURN NEW; END $$;"
         "CREATE TRIGGER t_stamp BEFORE INSERT OR UPDATE OR DELETE ON t FOR EACH ROW"
         " EXECUTE FUNCTION stamp();" +
         mode;
}

std::vector<TableLife> firing() {
  const std::vector<std::string> changes = {"INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')",
                                            "UPDATE t SET v = 'x' WHERE id = 2",
                                            "DELETE FROM t WHERE id = 3"};
  const std::string silent =
      "CREATE TABLE t (id int PRIMARY KEY, v text);"
      "CREATE TABLE log (what text)";
  const std::string fired = "SELECT string_agg(what, ' ' ORDER BY what) FROM log";
  const std::string rows = "SELECT string_agg(v, ' ' ORDER BY id) FROM t";
  return {
      {"an ordinary trigger does not fire again", triggers(""), changes, {"t", "log"}},
      {"an ordinary trigger of the standby stays silent",
       silent,
       changes,
       {"t", "log"},
       triggers("")},
      {"an ALWAYS trigger of the standby fires",
       silent,
       changes,
       {},
       triggers("ALTER TABLE t ENABLE ALWAYS TRIGGER t_stamp"),
       {{fired, "DELETE INSERT INSERT INSERT UPDATE"}, {rows, "a* x*"}}},
      {"a REPLICA trigger of the standby fires",
       silent,
       changes,
       {},
       triggers("ALTER TABLE t ENABLE REPLICA TRIGGER t_stamp"),
       {{fired, "DELETE INSERT INSERT INSERT UPDATE"}, {rows, "a* x*"}}},
      {"an ordinary rule of the standby stays silent",
       silent,
       changes,
       {"t", "log"},
       silent + "; CREATE RULE r AS ON UPDATE TO t DO INSTEAD NOTHING"},
  };
}

TABLE_LIFE(TableLifeTriggers, firing)

TEST(TableLifeTriggers, AreNamedAtTheStart) {
  Pair pair(shared_master(), shared_standby());
  pair.on_both("CREATE TABLE quiet (id int PRIMARY KEY); CREATE TABLE loud (id int PRIMARY KEY)");
  pair.on_standby(
      "CREATE FUNCTION cry() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
      "CREATE TRIGGER cry AFTER INSERT ON quiet EXECUTE FUNCTION cry();"
      "CREATE TRIGGER cry AFTER INSERT ON loud EXECUTE FUNCTION cry();"
      "ALTER TABLE loud ENABLE REPLICA TRIGGER cry");
  pair.start();
  pair.wait_applied();
  EXPECT_NE(pair.story().find("event=triggers_fire tables=\"public.loud\""), std::string::npos)
      << pair.story();
}

std::vector<TableLife> transactions() {
  const std::string table = "CREATE TABLE t (id int PRIMARY KEY, v text)";
  const std::string block =
      "DO $$ BEGIN FOR i IN 1..20 LOOP BEGIN INSERT INTO t VALUES (i, 'loop');"
      " IF i % 3 = 0 THEN RAISE EXCEPTION 'undone'; END IF;"
      " UPDATE t SET v = v || i WHERE id = i; EXCEPTION WHEN raise_exception THEN NULL; END;"
      " END LOOP; END $$";
  return {
      {"savepoints",
       table,
       {"BEGIN; INSERT INTO t VALUES (1, 'a'); SAVEPOINT one; INSERT INTO t VALUES (2, 'b');"
        " UPDATE t SET v = 'lost' WHERE id = 1; SAVEPOINT two; DELETE FROM t; ROLLBACK TO two;"
        " ROLLBACK TO one; INSERT INTO t VALUES (3, 'c'); SAVEPOINT three;"
        " INSERT INTO t VALUES (4, 'd'); RELEASE three; COMMIT"}},
      {"exceptions in PL/pgSQL", table, {block}},
      {"aborted",
       table,
       {"INSERT INTO t VALUES (1, 'a')",
        "BEGIN; INSERT INTO t SELECT i, 'gone' FROM generate_series(2, 3000) i; DELETE FROM t;"
        " ROLLBACK",
        "INSERT INTO t VALUES (2, 'b')"}},
      {"empty",
       table,
       {"BEGIN; COMMIT", "BEGIN; SELECT txid_current(); COMMIT",
        "BEGIN; CREATE TEMPORARY TABLE x (i int) ON COMMIT DROP; INSERT INTO x VALUES (1); COMMIT",
        "BEGIN; UPDATE t SET v = 'none'; COMMIT", "INSERT INTO t VALUES (1, 'a')"}},
      {"many tables in one",
       "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY)",
       {"DO $$ BEGIN FOR i IN 1..300 LOOP INSERT INTO t VALUES (i); INSERT INTO u VALUES (-i);"
        " IF i % 10 = 0 THEN DELETE FROM t WHERE id = i / 2; END IF; END LOOP; END $$"},
       {"t", "u"}},
      {"a large one",
       table,
       {"INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 30000) i",
        "UPDATE t SET v = v || '!' WHERE id % 2 = 0", "DELETE FROM t WHERE id % 3 = 0"}},
  };
}

TABLE_LIFE(TableLifeTransactions, transactions)

}  // namespace
}  // namespace bitacora::harness
