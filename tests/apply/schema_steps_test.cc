#include "apply/schema_steps.h"

#include <fmt/format.h>

#include <mutex>
#include <set>
#include <thread>

#include "tests/apply/standby_fixture.h"

namespace bitacora::apply {
namespace {

constexpr const char* kSubscription = "prueba";

struct Entry {
  std::string type;
  std::string schema;
  std::string name;
  std::string sql;
};

pb::DumpedSchema dumped(const std::vector<Entry>& before, const std::vector<Entry>& after = {}) {
  pb::DumpedSchema schema;
  const auto add = [](const Entry& entry, pb::SchemaEntry& to) {
    to.set_type(entry.type);
    to.set_schema(entry.schema);
    to.set_name(entry.name);
    to.set_sql(entry.sql);
  };
  for (const auto& entry : before) add(entry, *schema.add_pre_data());
  for (const auto& entry : after) add(entry, *schema.add_post_data());
  return schema;
}

// As pg_dump writes it; in public, which is there.
const std::vector<Entry> kShopBefore = {
    {"SCHEMA", "", "Tienda", "CREATE SCHEMA \"Tienda\";\n"},
    {"EXTENSION", "", "hstore", "CREATE EXTENSION IF NOT EXISTS hstore WITH SCHEMA public;\n"},
    {"TYPE", "public", "mood", "CREATE TYPE public.mood AS ENUM (\n    'ok',\n    'sad'\n);\n"},
    {"FUNCTION", "public", "twice(integer)",
     "CREATE FUNCTION public.twice(a integer) RETURNS integer\n    LANGUAGE sql IMMUTABLE\n    AS "
     "$$"
     " SELECT 2 * a; $$;\n"},
    {"FUNCTION", "public", "noted()",
     "CREATE FUNCTION public.noted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END;"
     " $$;\n-- a comment at the end"},
    {"TABLE", "public", "client",
     "SET default_tablespace = '';\nCREATE TABLE public.client (\n    id integer NOT NULL,\n    m"
     " public.mood,\n    h public.hstore,\n    twice integer GENERATED ALWAYS AS (public.twice(id))"
     " STORED\n);\n"},
    {"TABLE", "Tienda", "Orden",
     "CREATE TABLE \"Tienda\".\"Orden\" (id integer NOT NULL, client integer, at date NOT NULL)\n"
     "PARTITION BY RANGE (at);\n"},
    {"TABLE", "Tienda", "o1",
     "CREATE TABLE \"Tienda\".o1 (id integer NOT NULL, client integer, at date NOT NULL);\n"},
    {"TABLE ATTACH", "Tienda", "o1",
     "ALTER TABLE ONLY \"Tienda\".\"Orden\" ATTACH PARTITION \"Tienda\".o1 FOR VALUES FROM"
     " ('2020-01-01') TO ('2021-01-01');\n"},
    {"MATERIALIZED VIEW", "public", "mv",
     "CREATE MATERIALIZED VIEW public.mv AS SELECT id FROM public.client WITH NO DATA;\n"},
};
const std::vector<Entry> kShopAfter = {
    {"CONSTRAINT", "public", "client client_pkey",
     "ALTER TABLE ONLY public.client\n    ADD CONSTRAINT client_pkey PRIMARY KEY (id);\n"},
    {"CONSTRAINT", "Tienda", "Orden Orden_pkey",
     "ALTER TABLE ONLY \"Tienda\".\"Orden\"\n    ADD CONSTRAINT \"Orden_pkey\" PRIMARY KEY (id,"
     " at);\n"},
    {"CONSTRAINT", "Tienda", "o1 o1_pkey",
     "ALTER TABLE ONLY \"Tienda\".o1\n    ADD CONSTRAINT o1_pkey PRIMARY KEY (id, at);\n"},
    {"INDEX", "Tienda", "orden_client",
     "CREATE INDEX orden_client ON ONLY \"Tienda\".\"Orden\" USING btree (client);\n"},
    {"INDEX", "Tienda", "o1_client_idx",
     "CREATE INDEX o1_client_idx ON \"Tienda\".o1 USING btree (client);\n"},
    {"INDEX", "public", "mv_id", "CREATE UNIQUE INDEX mv_id ON public.mv USING btree (id);\n"},
    {"INDEX ATTACH", "Tienda", "o1_client_idx",
     "ALTER INDEX \"Tienda\".orden_client ATTACH PARTITION \"Tienda\".o1_client_idx;\n"},
    {"INDEX ATTACH", "Tienda", "o1_pkey",
     "ALTER INDEX \"Tienda\".\"Orden_pkey\" ATTACH PARTITION \"Tienda\".o1_pkey;\n"},
    {"STATISTICS", "public", "client_stat",
     "CREATE STATISTICS public.client_stat ON id, m FROM public.client;\n"},
    {"TRIGGER", "public", "client noted",
     "CREATE TRIGGER noted BEFORE INSERT ON public.client FOR EACH ROW EXECUTE FUNCTION"
     " public.noted();\n"},
    {"FK CONSTRAINT", "Tienda", "Orden orden_fk",
     "ALTER TABLE \"Tienda\".\"Orden\"\n    ADD CONSTRAINT orden_fk FOREIGN KEY (client) REFERENCES"
     " public.client(id);\n"},
    {"MATERIALIZED VIEW DATA", "public", "mv", "REFRESH MATERIALIZED VIEW public.mv;\n"},
};

class SchemaStepsTest : public StandbyFixture {
 protected:
  using Names = std::vector<std::string>;

  Names begin(const pb::DumpedSchema& schema) {
    const auto kept = begin_schema(session(), kSubscription, schema);
    EXPECT_TRUE(succeeded(kept));
    return kept.ok() ? *kept : Names{};
  }

  std::vector<SchemaStep> load() {
    const auto steps = load_schema_steps(session(), kSubscription);
    EXPECT_TRUE(succeeded(steps));
    return steps.ok() ? *steps : std::vector<SchemaStep>{};
  }

  // By `count` new sessions; what was done is in done().
  Result<void> do_steps(std::size_t count, const std::stop_token& stop = {}) {
    std::vector<StandbySession> sessions;
    while (sessions.size() < count) sessions.push_back(connect());
    const auto on_done = [this](const SchemaStep& step,
                                std::chrono::steady_clock::duration /*took*/) {
      const std::lock_guard lock(mutex_);
      done_.push_back(step.name);
    };
    return do_schema_steps(sessions, kSubscription, load(), on_done, stop);
  }

  Names done() {
    const std::lock_guard lock(mutex_);
    return std::exchange(done_, {});
  }

  // A step that lasts until somebody gives the lock away.
  static std::string wait_for_lock(int number) {
    return fmt::format("SELECT pg_catalog.pg_advisory_xact_lock({});", number);
  }

  bool waiting(int backends) const {
    return harness::eventually([&] {
      return value(
                 "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND"
                 " database = (SELECT oid FROM pg_database WHERE datname = current_database())") ==
             std::to_string(backends);
    });
  }

 private:
  std::mutex mutex_;
  Names done_;
};

TEST_F(SchemaStepsTest, ASchemaIsMadeBeforeAndAfterItsData) {
  EXPECT_TRUE(load().empty());
  EXPECT_TRUE(begin(dumped(kShopBefore, kShopAfter)).empty());
  execute(R"(INSERT INTO client VALUES (1, 'ok', 'a=>1'), (2, NULL, NULL);
             INSERT INTO "Tienda"."Orden" VALUES (1, 1, '2020-05-05'))");
  const auto steps = load();
  ASSERT_EQ(steps.size(), kShopAfter.size());
  EXPECT_EQ(steps[0].name, "public.\"client client_pkey\"");
  EXPECT_EQ(steps[0].sql, kShopAfter[0].sql);
  std::string builds;
  for (const auto& step : steps) builds += step.builds ? step.table + "\n" : "";
  EXPECT_EQ(builds,
            "public.client\n\"Tienda\".\"Orden\"\n\"Tienda\".o1\n\"Tienda\".\"Orden\"\n"
            "\"Tienda\".o1\npublic.mv\n");

  ASSERT_TRUE(succeeded(do_steps(3)));
  EXPECT_EQ(done().size(), kShopAfter.size());
  EXPECT_TRUE(load().empty());
  EXPECT_EQ(
      value("SELECT count(*) FROM pg_index WHERE indisvalid AND indrelid IN ('client'::regclass"
            ", '\"Tienda\".\"Orden\"'::regclass, '\"Tienda\".o1'::regclass, 'mv'::regclass)"),
      "6");
  EXPECT_EQ(value("SELECT count(*) FROM mv"), "2");
  EXPECT_EQ(value("SELECT count(*) FROM pg_trigger WHERE tgname = 'noted'"), "1");
}

TEST_F(SchemaStepsTest, WhatIsThereIsKeptAsItIs) {
  execute(R"(CREATE SCHEMA "Tienda"; CREATE TYPE mood AS ENUM ('own');
             CREATE FUNCTION twice(a int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 3 * a';
             CREATE TABLE "Tienda".o1 (own int); CREATE VIEW v AS SELECT 1 AS own;
             CREATE SEQUENCE s START 5; CREATE DOMAIN d AS text)");
  const auto kept = begin(dumped(
      {
          {"TABLE", "public", "before", "CREATE TABLE public.before ();"},
          kShopBefore[0],
          kShopBefore[2],
          kShopBefore[3],
          {"TABLE", "Tienda", "o1",
           "CREATE TABLE public.half (a int); CREATE TABLE \"Tienda\".o1 (a int);"},
          {"VIEW", "public", "v", "CREATE VIEW public.v AS SELECT 2 AS a;"},
          {"SEQUENCE", "public", "s", "CREATE SEQUENCE public.s;"},
          {"DOMAIN", "public", "d", "CREATE DOMAIN public.d AS integer"},
          {"TABLE", "public", "new", "CREATE TABLE public.new (m public.mood);"},
      },
      {{"RULE", "public", "r", "SELECT 1"}}));
  EXPECT_EQ(value("SELECT count(*) FROM before"), "0");
  EXPECT_EQ(load().size(), 1u);
  EXPECT_EQ(kept, (Names{"\"Tienda\"", "public.mood", "public.\"twice(integer)\"", "\"Tienda\".o1",
                         "public.v", "public.s", "public.d"}));
  EXPECT_EQ(value("SELECT enum_range(NULL::mood)::text"), "{own}");
  EXPECT_EQ(value("SELECT twice(1)"), "3");
  EXPECT_EQ(value("SELECT count(own) FROM \"Tienda\".o1"), "0");
  EXPECT_EQ(value("SELECT to_regclass('public.half')"), "") << "half of an entry was made";
  EXPECT_EQ(value("SELECT count(*) FROM new"), "0");
}

TEST_F(SchemaStepsTest, ATypeOfATablesNameIsNotThatTable) {
  execute("CREATE TYPE t AS ENUM ('a')");
  const auto begun =
      begin_schema(session(), kSubscription,
                   dumped({{"TABLE", "public", "t", "CREATE TABLE public.t (a int);"}}));
  EXPECT_TRUE(refused(begun, {"cannot make TABLE public.t", "already exists"}));
}

TEST_F(SchemaStepsTest, ARefusedEntryUnmakesAll) {
  struct Case {
    const char* name;
    Entry entry;
    std::vector<std::string> words;
  };
  for (const Case& c : {
           Case{
               "no such extension",
               {"EXTENSION", "", "nada", "CREATE EXTENSION IF NOT EXISTS nada WITH SCHEMA public;"},
               {"cannot make EXTENSION nada", "nada.control", "install its package"}},
           Case{
               "no such type",
               {"TABLE", "public", "t", "CREATE TABLE public.t (a public.nada);"},
               {"cannot make TABLE public.t", "\"public.nada\" does not exist", "what is missing"}},
           Case{"no such language",
                {"FUNCTION", "public", "f()",
                 "CREATE FUNCTION public.f() RETURNS int LANGUAGE plnada AS '1';"},
                {"cannot make FUNCTION public.\"f()\"", "plnada", "what is missing"}},
           Case{"no SQL",
                {"TYPE", "public", "mood", "CREATE nada"},
                {"cannot make TYPE public.mood", "syntax error"}},
       }) {
    SCOPED_TRACE(c.name);
    const auto begun = begin_schema(
        session(), kSubscription,
        dumped(
            {kShopBefore[0], {"TABLE", "public", "first", "CREATE TABLE public.first ()"}, c.entry},
            kShopAfter));
    EXPECT_TRUE(refused(begun, c.words));
    EXPECT_EQ(begun.error().code, ErrorCode::kStandby);
    EXPECT_FALSE(begun.error().heals());
    EXPECT_EQ(value("SELECT concat(to_regnamespace('\"Tienda\"'), to_regclass('public.first'),"
                    " to_regnamespace('bitacora'))"),
              "");
    EXPECT_EQ(PQtransactionStatus(session().connection()), PQTRANS_IDLE);
  }
}

TEST_F(SchemaStepsTest, ASchemaOfMoreTablesThanTheServerHasLocksFor) {
  const auto begun = begin_schema(
      session(), kSubscription,
      dumped({{"TABLE", "public", "t",
               "DO $$ BEGIN FOR i IN 1 .. 20000 LOOP EXECUTE 'CREATE TABLE public.t' || i || ' (a"
               " text)'; END LOOP; END $$"}}));
  EXPECT_TRUE(refused(begun, {"cannot make TABLE public.t", "raise max_locks_per_transaction"}));
  EXPECT_FALSE(begun.error().heals()) << "it would be tried for ever";
}

TEST_F(SchemaStepsTest, SaysWhichRightIsMissing) {
  const auto role = limited_role();
  auto limited = connect(role);
  const pb::DumpedSchema schema = dumped({kShopBefore[0]});
  EXPECT_TRUE(refused(begin_schema(limited, kSubscription, schema),
                      {"bitacora", "CREATE SCHEMA bitacora AUTHORIZATION"}));
  execute("CREATE SCHEMA bitacora AUTHORIZATION " + role);
  EXPECT_TRUE(refused(begin_schema(limited, kSubscription, schema),
                      {"cannot make SCHEMA \"Tienda\"", "GRANT CREATE ON DATABASE", role}));
  EXPECT_TRUE(
      refused(begin_schema(limited, kSubscription,
                           dumped({{"TABLE", "public", "t", "CREATE TABLE public.t ()"}})),
              {"cannot make TABLE public.t", "GRANT CREATE ON SCHEMA \"public\" TO", role}));
  EXPECT_TRUE(refused(
      begin_schema(limited, kSubscription,
                   dumped({{"EXTENSION", "", "hstore", "CREATE EXTENSION hstore SCHEMA public"}})),
      {"as a superuser: CREATE EXTENSION \"hstore\""}));
}

TEST_F(SchemaStepsTest, StepsStandBehindThoseFromBefore) {
  begin(dumped({}, {{"INDEX", "public", "a", "SELECT 1"}, {"RULE", "public", "b", "SELECT 1"}}));
  begin(dumped({}, {{"INDEX", "public", "c", "SELECT 1"}}));
  begin(dumped({}));
  ASSERT_TRUE(
      succeeded(begin_schema(session(), "otra", dumped({}, {{"INDEX", "", "d", "SELECT 'd'"}}))));
  std::string all;
  for (const auto& step : load()) all += fmt::format("{}{} ", step.number, step.name);
  EXPECT_EQ(all, "1public.a 2public.b 3public.c ");
  ASSERT_TRUE(succeeded(do_steps(1)));
  EXPECT_EQ(done(), (Names{"public.a", "public.c", "public.b"})) << "what builds goes first";
  EXPECT_EQ(value("SELECT string_agg(subscription, ' ') FROM bitacora.schema_steps"), "otra");
  EXPECT_TRUE(succeeded(do_steps(1))) << "nothing is left";
}

TEST_F(SchemaStepsTest, IndexesAreBuiltTogetherAConstraintAlone) {
  const auto index = [](const char* name, const char* table) {
    return Entry{
        "INDEX", "public", name,
        fmt::format("CREATE INDEX {} ON public.{} (a);\n{}", name, table, wait_for_lock(1))};
  };
  begin(dumped({{"TABLE", "public", "large", "CREATE TABLE public.large (a int NOT NULL)"},
                {"TABLE", "public", "small", "CREATE TABLE public.small (a int NOT NULL)"}},
               {index("s1", "small"),
                index("l1", "large"),
                index("l2", "large"),
                {"CONSTRAINT", "public", "large large_key",
                 "ALTER TABLE ONLY public.large\n    ADD CONSTRAINT k PRIMARY KEY (a);\n" +
                     wait_for_lock(1)},
                {"TRIGGER", "public", "last", wait_for_lock(1)}}));
  execute("INSERT INTO large SELECT generate_series(1, 10000)");
  ASSERT_TRUE(succeeded(session().query("test", "SELECT pg_advisory_lock(1)")));
  Result<void> outcome;
  std::jthread doing([&] { outcome = do_steps(4); });
  EXPECT_TRUE(waiting(3)) << "both tables' indexes at the same time";
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_TRUE(waiting(3)) << "a fourth was begun beside them";
  ASSERT_TRUE(succeeded(session().query("test", "SELECT pg_advisory_unlock(1)")));
  doing.join();
  ASSERT_TRUE(succeeded(outcome));
  const auto order = done();
  ASSERT_EQ(order.size(), 5u);
  EXPECT_EQ(order[4], "public.last");
  EXPECT_EQ(order[3], "public.\"large large_key\"");
}

TEST_F(SchemaStepsTest, TheLargestTableGoesFirst) {
  begin(dumped({{"TABLE", "public", "small", "CREATE TABLE public.small (a int)"},
                {"TABLE", "public", "L", "CREATE TABLE public.\"L\" (a int)"}},
               {{"INDEX", "public", "s1", "CREATE INDEX s1 ON public.small (a)"},
                {"INDEX", "public", "none", "SELECT 1"},
                {"INDEX", "public", "l1", "CREATE INDEX l1 ON public.\"L\" (a)"},
                {"INDEX", "public", "l2", "CREATE INDEX l2 ON public.\"L\" (a)"}}));
  execute("INSERT INTO \"L\" SELECT generate_series(1, 10000); INSERT INTO small VALUES (1)");
  ASSERT_TRUE(succeeded(do_steps(1)));
  EXPECT_EQ(done(), (Names{"public.l1", "public.l2", "public.s1", "public.none"}));
}

TEST_F(SchemaStepsTest, AStepsSettings) {
  begin(dumped({{"TABLE", "public", "seen", "CREATE TABLE public.seen (memory text, scan text)"}},
               {{"RULE", "public", "r",
                 "INSERT INTO public.seen SELECT current_setting('maintenance_work_mem'),"
                 " current_setting('enable_seqscan')"}}));
  for (const char* memory : {"64MB", "1GB"}) {
    execute("DELETE FROM seen");
    execute(
        fmt::format("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET maintenance_work_mem ="
                    " %L', current_database(), '{}'); END $$",
                    memory));
    ASSERT_TRUE(succeeded(do_steps(1)));
    EXPECT_EQ(value("SELECT concat_ws(' ', memory, scan) FROM seen"),
              std::string(memory) == "1GB" ? "1GB on" : "256MB on");
    begin(dumped(
        {}, {{"RULE", "public", "r",
              "INSERT INTO public.seen SELECT"
              " current_setting('maintenance_work_mem'), current_setting('enable_seqscan')"}}));
  }
}

TEST_F(SchemaStepsTest, WhatIsThereAlreadyCountsAsDone) {
  execute(
      "CREATE TABLE t (a int PRIMARY KEY, b int UNIQUE); CREATE INDEX i ON t (a);"
      "ALTER TABLE t ADD CONSTRAINT fk FOREIGN KEY (b) REFERENCES t");
  begin(dumped({}, {{"INDEX", "public", "i", "CREATE INDEX i ON public.t USING btree (a);"},
                    {"CONSTRAINT", "public", "t t_b_key",
                     "ALTER TABLE ONLY public.t ADD CONSTRAINT t_b_key UNIQUE (b);"},
                    {"FK CONSTRAINT", "public", "t fk",
                     "ALTER TABLE ONLY public.t ADD CONSTRAINT fk FOREIGN KEY (b) REFERENCES"
                     " public.t(a);"}}));
  EXPECT_TRUE(succeeded(do_steps(2)));
  EXPECT_EQ(done().size(), 3u);
  EXPECT_TRUE(load().empty());
  begin(dumped({}, {{"CONSTRAINT", "public", "t other",
                     "ALTER TABLE ONLY public.t ADD CONSTRAINT other PRIMARY KEY (b);"}}));
  EXPECT_TRUE(refused(do_steps(1), {"multiple primary keys"}));
}

TEST_F(SchemaStepsTest, TheFirstErrorIsSaidAndTheOthersAreCancelled) {
  begin(dumped({{"TABLE", "public", "t", "CREATE TABLE public.t (a int)"}},
               {{"INDEX", "public", "long", wait_for_lock(2)},
                {"CONSTRAINT", "public", "t t_pkey",
                 "ALTER TABLE ONLY public.t\n    ADD CONSTRAINT t_pkey PRIMARY KEY (a);"},
                {"TRIGGER", "public", "never", "SELECT 1"}}));
  execute("INSERT INTO t VALUES (7), (7)");
  ASSERT_TRUE(succeeded(session().query("test", "SELECT pg_advisory_lock(2)")));
  const auto made = do_steps(2);
  EXPECT_TRUE(refused(made, {"cannot make CONSTRAINT public.\"t t_pkey\"", "(a)=(7) is duplicated",
                             "DELETE FROM bitacora.schema_steps WHERE subscription = 'prueba' AND"
                             " number = 2"}));
  EXPECT_FALSE(made.error().heals());
  EXPECT_TRUE(done().empty());
  ASSERT_TRUE(succeeded(session().query("test", "SELECT pg_advisory_unlock(2)")));
  execute("DELETE FROM t WHERE ctid = '(0,1)'");
  EXPECT_TRUE(succeeded(do_steps(2)));
  EXPECT_EQ(done().size(), 3u);
}

TEST_F(SchemaStepsTest, AStopCancelsAndTheNextTimeGoesOn) {
  begin(dumped({}, {{"INDEX", "public", "a", "SELECT 1"},
                    {"INDEX", "public", "b", wait_for_lock(3)},
                    {"TRIGGER", "public", "c", "SELECT 1"}}));
  ASSERT_TRUE(succeeded(session().query("test", "SELECT pg_advisory_lock(3)")));
  std::stop_source stop;
  Result<void> outcome;
  std::jthread doing([&] { outcome = do_steps(1, stop.get_token()); });
  EXPECT_TRUE(waiting(1));
  stop.request_stop();
  doing.join();
  EXPECT_TRUE(refused(outcome, {"stopped"}));
  EXPECT_TRUE(outcome.error().heals());
  EXPECT_EQ(done(), Names{"public.a"});
  ASSERT_TRUE(succeeded(session().query("test", "SELECT pg_advisory_unlock(3)")));
  EXPECT_TRUE(refused(do_steps(1, stop.get_token()), {"stopped"}));
  EXPECT_TRUE(succeeded(do_steps(1)));
  EXPECT_EQ(done(), (Names{"public.b", "public.c"}));
}

TEST_F(SchemaStepsTest, AStopInTheLastStepCancelsItToo) {
  begin(dumped({}, {{"TRIGGER", "public", "b", wait_for_lock(4)}}));
  ASSERT_TRUE(succeeded(session().query("test", "SELECT pg_advisory_lock(4)")));
  std::stop_source stop;
  Result<void> outcome;
  std::jthread doing([&] { outcome = do_steps(2, stop.get_token()); });
  EXPECT_TRUE(waiting(1));
  stop.request_stop();
  doing.join();
  EXPECT_TRUE(refused(outcome, {"stopped"}));
  EXPECT_EQ(load().size(), 1u);
}

TEST_F(SchemaStepsTest, ALostConnectionHealsAndTheNextTimeGoesOn) {
  begin(dumped({{"TABLE", "public", "t", "CREATE TABLE public.t (a int)"}},
               {{"INDEX", "public", "i", "CREATE INDEX i ON public.t (a);\n" + wait_for_lock(5)},
                {"INDEX", "public", "j", "CREATE INDEX j ON public.t (a);\n" + wait_for_lock(5)}}));
  ASSERT_TRUE(succeeded(session().query("test", "SELECT pg_advisory_lock(5)")));
  Result<void> outcome;
  std::jthread doing([&] { outcome = do_steps(2); });
  EXPECT_TRUE(waiting(2));
  execute(
      "SELECT pg_terminate_backend(min(pid)) FROM pg_locks WHERE locktype = 'advisory' AND NOT"
      " granted AND objid = 5");
  doing.join();
  ASSERT_FALSE(outcome.ok());
  EXPECT_TRUE(outcome.error().heals()) << one_line(outcome.error());
  EXPECT_EQ(value("SELECT count(*) FROM pg_index WHERE indrelid = 't'::regclass"), "0");
  ASSERT_TRUE(succeeded(session().query("test", "SELECT pg_advisory_unlock(5)")));
  EXPECT_TRUE(succeeded(do_steps(2)));
  EXPECT_EQ(value("SELECT count(*) FROM pg_index WHERE indrelid = 't'::regclass"), "2");
}

// The step holds t and waits for u, the other session the other way round.
TEST_F(SchemaStepsTest, ADeadlockIsTriedAgain) {
  begin(dumped({{"TABLE", "public", "t", "CREATE TABLE public.t (a int)"},
                {"TABLE", "public", "u", "CREATE TABLE public.u (a int)"}},
               {{"TRIGGER", "public", "both",
                 "SET LOCAL deadlock_timeout = '10ms'; LOCK public.t;" + wait_for_lock(6) +
                     "LOCK public.u"}}));
  ASSERT_TRUE(succeeded(session().query("test", "SELECT pg_advisory_lock(6)")));
  Result<void> outcome;
  std::jthread doing([&] { outcome = do_steps(1); });
  EXPECT_TRUE(waiting(1));
  auto other = connect();
  for (const char* sql : {"BEGIN", "SET LOCAL deadlock_timeout = '100s'", "LOCK public.u"})
    ASSERT_TRUE(succeeded(other.query("test", sql)));
  std::jthread locking([&] {
    EXPECT_TRUE(succeeded(other.query("test", "LOCK public.t")));
    EXPECT_TRUE(succeeded(other.query("test", "COMMIT")));
  });
  EXPECT_TRUE(harness::eventually([&] {
    return value("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 't'::regclass") ==
           "1";
  }));
  ASSERT_TRUE(succeeded(session().query("test", "SELECT pg_advisory_unlock(6)")));
  doing.join();
  locking.join();
  EXPECT_TRUE(succeeded(outcome));
  EXPECT_EQ(done(), Names{"public.both"});
}

TEST_F(SchemaStepsTest, ManyEntriesAtOnce) {
  constexpr int kTables = 500;
  std::vector<Entry> before, after;
  for (int i = 0; i < kTables; ++i) {
    before.push_back({"TABLE", "public", fmt::format("t{}", i),
                      fmt::format("CREATE TABLE public.t{} (a int NOT NULL, b text);\n", i)});
    after.push_back({"CONSTRAINT", "public", fmt::format("t{0} t{0}_pkey", i),
                     fmt::format("ALTER TABLE ONLY public.t{0}\n    ADD CONSTRAINT t{0}_pkey"
                                 " PRIMARY KEY (a);\n",
                                 i)});
  }
  begin(dumped(before, after));
  ASSERT_TRUE(succeeded(do_steps(3)));
  EXPECT_EQ(value("SELECT count(*) FROM pg_constraint WHERE contype = 'p' AND connamespace ="
                  " 'public'::regnamespace"),
            std::to_string(kTables));
}

}  // namespace
}  // namespace bitacora::apply
