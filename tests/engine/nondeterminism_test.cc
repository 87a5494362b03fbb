// Rows are shipped, never statements: what now(), random() or a sequence answered on the master is
// what the standby gets. Replaying the statements, as the control does, gives something else.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <array>
#include <pqxx/pqxx>
#include <string>
#include <vector>

#include "tests/postgres/database.h"
#include "tests/postgres/pair.h"

namespace bitacora::harness {
namespace {

constexpr int kStatements = 1000;

// {} is the table: `shipped` on the master, `replayed` on the standby.
const char* const kTable = R"(
  CREATE SEQUENCE {0}_seq INCREMENT 3;
  CREATE FUNCTION {0}_stamp() RETURNS trigger LANGUAGE plpgsql AS $$
  BEGIN
    NEW.stamped := clock_timestamp();
    NEW.drawn := random();
    NEW.ticket := nextval('{0}_seq');
    RETURN NEW;
  END $$;
  CREATE TABLE {0} (
    id int PRIMARY KEY, at timestamptz DEFAULT now(), clock timestamptz DEFAULT clock_timestamp(),
    chance float8 DEFAULT random(), uid uuid DEFAULT gen_random_uuid(), seq bigserial,
    numbered int GENERATED ALWAYS AS IDENTITY, who text DEFAULT pg_backend_pid(), word text,
    stamped timestamptz, drawn float8, ticket bigint))";
const char* const kTrigger = R"(
  CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON {0}
    FOR EACH ROW EXECUTE FUNCTION {0}_stamp())";

std::string statement(int i) {
  constexpr std::array kKinds = {
      "INSERT INTO {0} (id) VALUES ({1})",
      "INSERT INTO {0} (id, word, at) VALUES ({1}, md5(random()::text), statement_timestamp())",
      "INSERT INTO {0} (id, seq, uid) SELECT {1}, nextval('{0}_seq') + txid_current(),"
      " gen_random_uuid()",
      "UPDATE {0} SET chance = random(), clock = clock_timestamp() WHERE id = {1} - 2",
      "UPDATE {0} SET word = timeofday() WHERE id IN"
      " (SELECT id FROM {0} ORDER BY random() LIMIT 3)",
      "INSERT INTO {0} (id, numbered) OVERRIDING SYSTEM VALUE"
      " VALUES ({1}, (random() * 1000000)::int)",
      "DELETE FROM {0} WHERE id = (SELECT id FROM {0} ORDER BY random() LIMIT 1)",
      "INSERT INTO {0} (id, word) VALUES ({1}, current_setting('port') || inet_server_port())",
  };
  return kKinds.at(static_cast<std::size_t>(i) % kKinds.size());
}

// One connection, each statement a transaction of its own.
void run_statements(const std::string& conninfo, const std::string& table) {
  pqxx::connection connection(conninfo);
  pqxx::nontransaction session(connection);
  for (int i = 0; i < kStatements; ++i) {
    session.exec(fmt::format(fmt::runtime(statement(i)), table, i));
  }
}

void create(const std::string& conninfo, const std::string& table) {
  execute(conninfo, fmt::format(fmt::runtime(kTable), table));
  execute(conninfo, fmt::format(fmt::runtime(kTrigger), table));
}

TEST(Nondeterminism, ReplayedStatementsDiffer) {
  PairOptions options;
  options.receiver_arguments = {"--sequences-interval", "0"};  // who else draws from them shows
  Pair pair(options);
  pair.on_standby("CREATE SCHEMA control");
  const auto control = pair.standby() + " options='-c search_path=control'";
  create(pair.standby(), "shipped");
  create(control, "shipped");
  create(pair.master(), "shipped");
  pair.start();
  run_statements(pair.master(), "shipped");
  run_statements(control, "shipped");
  pair.wait_applied();

  const auto shipped = table_content(pair.standby(), "public.shipped");
  EXPECT_EQ(table_content(pair.master(), "public.shipped"), shipped);
  EXPECT_NE(table_content(pair.standby(), "control.shipped"), shipped);
  // Not one of the control's rows agrees, so equal rows are not luck.
  EXPECT_EQ(query_value(pair.standby(),
                        "SELECT count(*) FROM public.shipped JOIN control.shipped c USING (id)"
                        " WHERE shipped.uid = c.uid OR shipped.drawn = c.drawn"
                        " OR shipped.stamped = c.stamped"),
            "0");
  EXPECT_GT(std::stoi(query_value(pair.standby(), "SELECT count(*) FROM shipped")), 400);
  // The standby drew nothing itself: its sequences and its trigger were not asked.
  EXPECT_EQ(query_value(pair.standby(), "SELECT is_called FROM public.shipped_seq"), "f");
}

// Statements that touch many rows at once, in an order that only the master knows.
TEST(Nondeterminism, ManyRowsOfOneStatement) {
  Pair pair;
  pair.on_both("CREATE TABLE t (id int PRIMARY KEY, v float8, u uuid)");
  pair.start();
  pair.on_master(
      "INSERT INTO t SELECT i, random(), gen_random_uuid()"
      " FROM generate_series(1, 5000) i");
  pair.on_master("UPDATE t SET v = random() WHERE random() < 0.5");
  pair.on_master("DELETE FROM t WHERE random() < 0.3");
  pair.on_master("UPDATE t SET id = id + 10000 WHERE random() < 0.2");
  pair.wait_applied();
  EXPECT_TRUE(pair.same_content("public.t"));
}

}  // namespace
}  // namespace bitacora::harness
