#include "engine/schema_dump.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <future>
#include <pqxx/pqxx>
#include <set>
#include <sstream>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "engine/client_tools.h"
#include "proto/relation.h"
#include "tests/postgres/database.h"
#include "tests/postgres/process.h"
#include "tests/wal/every_version.h"
#include "wal/copy_snapshot.h"

namespace bitacora::engine {
namespace {

namespace fs = std::filesystem;
using wal::succeeded;

constexpr int kToolsVersion = 15;  // of the pg_dump beside the tests

// Something of everything that a table can need, with names that have to be quoted.
constexpr const char* kRichSchema = R"sql(
CREATE SCHEMA s; COMMENT ON SCHEMA s IS 'of the shop';
CREATE TYPE s.mood AS ENUM ('sad', 'it''s ok');
CREATE TYPE s.pair AS (a int, b s.mood);
CREATE FUNCTION s.positive(v int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT v > 0';
CREATE DOMAIN s.amount AS int CHECK (s.positive(VALUE));
CREATE TYPE s.span AS RANGE (subtype = int);
CREATE COLLATION s.german FROM "C";
CREATE FUNCTION s.next_code() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; SELECT 2; END;
CREATE FUNCTION s.noise() RETURNS trigger LANGUAGE plpgsql AS $body$
--
-- TOC entry 1 (class 1259 OID 1)
-- Name: x; Type: TABLE; Schema: -; Owner: -
--

BEGIN RAISE NOTICE 'x; y'; /* ; */ RETURN NEW; END
$body$;
CREATE SEQUENCE s.shared;
CREATE TABLE s."a""; drop table x; --
b" (id serial PRIMARY KEY, n int GENERATED ALWAYS AS IDENTITY UNIQUE, m s.mood DEFAULT 'sad', p s.pair,
    amount s.amount DEFAULT s.next_code(), more s.amount[], during s.span,
    twice int GENERATED ALWAYS AS (2 * 21) STORED, name text COLLATE s.german,
    code int DEFAULT nextval('s.shared'), CHECK (code <> 13), EXCLUDE USING gist (during WITH &&));
COMMENT ON TABLE s."a""; drop table x; --
b" IS 'first
--
-- line'; COMMENT ON COLUMN s."a""; drop table x; --
b".name IS 'it''s';
CREATE TABLE root (id int NOT NULL, v text, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE low PARTITION OF root FOR VALUES FROM (0) TO (10);
CREATE TABLE high PARTITION OF root FOR VALUES FROM (10) TO (20) PARTITION BY RANGE (id);
CREATE TABLE highest PARTITION OF high DEFAULT;
CREATE INDEX root_v ON root (v);
CREATE TABLE parent (id int PRIMARY KEY, v text); CREATE TABLE child (extra int) INHERITS (parent);
CREATE TABLE referring (id int PRIMARY KEY REFERENCES root, a int REFERENCES s."a""; drop table x; --
b", other int, code int DEFAULT nextval('s.shared'));
CREATE TABLE other (id int PRIMARY KEY, shown bool); ALTER TABLE referring ADD FOREIGN KEY (other) REFERENCES other;
CREATE TRIGGER noise BEFORE INSERT ON referring FOR EACH ROW EXECUTE FUNCTION s.noise();
CREATE RULE logged AS ON DELETE TO referring DO ALSO INSERT INTO other VALUES (OLD.id);
CREATE POLICY mine ON referring USING (id > 0); ALTER TABLE referring ENABLE ROW LEVEL SECURITY;
CREATE STATISTICS s.both ON id, other FROM referring;
CREATE INDEX by_expression ON referring ((s.positive(id)), code) WHERE id > 3;
CREATE TABLE by_index (a int NOT NULL); CREATE UNIQUE INDEX by_index_a ON by_index (a);
ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_a; ALTER TABLE by_index ADD CHECK (a > 1) NOT VALID;
CREATE VIEW seen AS SELECT r.id, o.shown FROM referring r JOIN other o ON o.id = r.other;
CREATE MATERIALIZED VIEW stored AS SELECT * FROM seen; CREATE INDEX stored_id ON stored (id);
CREATE FUNCTION uses_row(r other) RETURNS bool LANGUAGE sql AS 'SELECT r.shown';
CREATE AGGREGATE s.total (int) (sfunc = int4pl, stype = int);
CREATE TABLE unlogged_one (id int); ALTER TABLE unlogged_one SET UNLOGGED;
)sql";

pb::TableName table_name(const std::string& name, const std::string& schema = "public") {
  pb::TableName table;
  table.set_schema(schema);
  table.set_name(name);
  return table;
}

class SchemaDumpTest : public wal::EveryVersion {
 protected:
  void SetUp() override {
    EveryVersion::SetUp();
    if (IsSkipped()) return;
    options_.conninfo = conninfo();
  }

  pb::DumpedSchema dump(std::vector<pb::TableName> tables = {},
                        std::vector<pb::TableName> existing = {}) {
    options_.tables = std::move(tables);
    options_.existing = std::move(existing);
    auto dumped = dump_schema(master(), options_);
    EXPECT_TRUE(succeeded(dumped));
    return dumped.ok() ? *dumped : pb::DumpedSchema();
  }

  // Makes it in a new database, entry by entry; answers its conninfo.
  std::string make(const pb::DumpedSchema& schema) {
    const auto copy = harness::fresh_database(cluster(), "schema_copy");
    add(copy, schema);
    return copy;
  }
  static void add(const std::string& database, const pb::DumpedSchema& schema) {
    pqxx::connection connection(database);
    pqxx::nontransaction session(connection);
    session.exec(
        "SET check_function_bodies = off; SET search_path = ''; SET client_min_messages = "
        "warning");
    for (const auto* entries : {&schema.pre_data(), &schema.post_data()}) {
      for (const auto& entry : *entries) {
        try {
          session.exec(entry.sql());
        } catch (const std::exception& e) {
          ADD_FAILURE() << entry.type() << " " << entry.name() << ": " << e.what() << entry.sql();
        }
      }
    }
  }

  // "TYPE schema.name" of all entries that have `type`, or of all.
  static std::set<std::string> entries(const pb::DumpedSchema& schema) {
    std::set<std::string> found;
    for (const auto* part : {&schema.pre_data(), &schema.post_data()}) {
      for (const auto& entry : *part)
        found.insert(fmt::format("{} {}.{}", entry.type(), entry.schema(), entry.name()));
    }
    return found;
  }

  SchemaDumpOptions options_;
};

// pg_dump's own view of a database; its order depends on OIDs.
std::string pg_dump_of(const std::string& conninfo) {
  const auto finished = harness::run({"pg_dump", "--schema-only", "--no-owner", "--no-publications",
                                      "--exclude-schema=bitacora", "-d", conninfo});
  EXPECT_EQ(finished.exit_code, 0) << finished.error_output;
  std::vector<std::string> lines;
  std::istringstream text(finished.output);
  for (std::string line; std::getline(text, line);) {
    if (!line.starts_with("\\")) lines.push_back(line);
  }
  std::sort(lines.begin(), lines.end());
  return fmt::format("{}", fmt::join(lines, "\n"));
}

TEST_P(SchemaDumpTest, EverythingIsTheSameWhenMadeAgain) {
  sql(kRichSchema);
  sql("CREATE SCHEMA bitacora; CREATE TABLE bitacora.own (id int); CREATE PUBLICATION p FOR ALL "
      "TABLES; SELECT lo_create(0)");
  const auto dumped = dump();
  const auto copy = make(dumped);
  EXPECT_EQ(pg_dump_of(copy), pg_dump_of(conninfo()));
  EXPECT_GT(dumped.pre_data_size(), 25);
  EXPECT_GT(dumped.post_data_size(), 15);
  for (const auto& entry : dumped.pre_data()) EXPECT_NE(entry.name(), "own");
}

TEST_P(SchemaDumpTest, ExtensionsComeByTheirName) {
  if (value(
          "SELECT count(*) FROM pg_available_extensions WHERE name IN ('btree_gist', 'citext')") !=
      "2")
    GTEST_SKIP() << "the server has no extensions";
  sql("CREATE SCHEMA e; CREATE EXTENSION btree_gist SCHEMA e; CREATE EXTENSION citext;"
      "CREATE TABLE t (id int, name citext, EXCLUDE USING gist (id WITH =))");
  EXPECT_EQ(pg_dump_of(make(dump())), pg_dump_of(conninfo()));
  const auto found = entries(dump({table_name("t")}));
  EXPECT_EQ(found, (std::set<std::string>{"SCHEMA .e", "EXTENSION .btree_gist", "EXTENSION .citext",
                                          "TABLE public.t", "CONSTRAINT public.t t_id_excl"}));
}

TEST_P(SchemaDumpTest, EventTriggersAndOtherThingsOfTheServerAreLeftOut) {
  sql("CREATE FUNCTION f() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';"
      "CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION f(); COMMENT ON EVENT TRIGGER e "
      "IS "
      "'x'; CREATE TABLE t (id int); CREATE PUBLICATION p FOR TABLE t; COMMENT ON PUBLICATION p IS "
      "'x'; CREATE SUBSCRIPTION own CONNECTION 'dbname=x' PUBLICATION p WITH (connect = false);"
      "CREATE FOREIGN DATA WRAPPER w; CREATE SERVER away FOREIGN DATA WRAPPER w;"
      "CREATE USER MAPPING FOR PUBLIC SERVER away OPTIONS (password 'secret');"
      "GRANT SELECT ON t TO PUBLIC");
  const auto found = entries(dump());
  sql("ALTER SUBSCRIPTION own SET (slot_name = NONE); DROP SUBSCRIPTION own");
  EXPECT_EQ(found, (std::set<std::string>{"FUNCTION public.f()", "TABLE public.t",
                                          "FOREIGN DATA WRAPPER .w", "SERVER .away"}));
}

TEST_P(SchemaDumpTest, ATableComesWithWhatItNeedsAndNothingElse) {
  sql(kRichSchema);
  const auto nasty = table_name("a\"; drop table x; --\nb", "s");
  const auto dumped = dump({nasty});
  make(dumped);
  const std::string shown = "a\"; drop table x; -- b";
  EXPECT_EQ(entries(dumped),
            (std::set<std::string>{"SCHEMA .s",
                                   "COMMENT .SCHEMA s",
                                   "TYPE s.mood",
                                   "TYPE s.pair",
                                   "FUNCTION s.positive(integer)",
                                   "DOMAIN s.amount",
                                   "TYPE s.span",
                                   "COLLATION s.german",
                                   "FUNCTION s.next_code()",
                                   "SEQUENCE s.shared",
                                   "TABLE s." + shown,
                                   "COMMENT s.TABLE \"a\"\"; drop table x; -- b\"",
                                   "COMMENT s.COLUMN \"a\"\"; drop table x; -- b\".name",
                                   "SEQUENCE s." + shown + "_id_seq",
                                   "SEQUENCE OWNED BY s." + shown + "_id_seq",
                                   "SEQUENCE s." + shown + "_n_seq",
                                   "DEFAULT s." + shown + " id",
                                   "CONSTRAINT s." + shown + " " + shown + "_pkey",
                                   "CONSTRAINT s." + shown + " " + shown + "_n_key",
                                   "CONSTRAINT s." + shown + " " + shown + "_during_excl"}));
}

// A rule writes into another table, which comes empty; what refers to it does not.
TEST_P(SchemaDumpTest, ForeignKeysOnlyBetweenTablesThatAreChosen) {
  sql(kRichSchema);
  const auto alone = entries(dump({table_name("referring")}));
  EXPECT_TRUE(alone.contains("TABLE public.other")) << "for the rule";
  EXPECT_TRUE(alone.contains("TRIGGER public.referring noise"));
  EXPECT_TRUE(alone.contains("FUNCTION s.noise()"));
  EXPECT_TRUE(alone.contains("RULE public.referring logged"));
  EXPECT_TRUE(alone.contains("POLICY public.referring mine"));
  EXPECT_TRUE(alone.contains("ROW SECURITY public.referring"));
  EXPECT_TRUE(alone.contains("STATISTICS s.both"));
  EXPECT_TRUE(alone.contains("INDEX public.by_expression"));
  EXPECT_FALSE(alone.contains("VIEW public.seen"));
  EXPECT_FALSE(alone.contains("TABLE public.root"));
  for (const auto& entry : alone) EXPECT_FALSE(entry.starts_with("FK CONSTRAINT")) << entry;
  make(dump({table_name("referring")}));
  for (const auto& [tables, keys] :
       {std::pair<std::vector<pb::TableName>, std::vector<std::string>>{
            {table_name("referring"), table_name("other")}, {"referring_other_fkey"}},
        {{table_name("referring"), table_name("root")}, {"referring_id_fkey"}},
        {{table_name("referring"), table_name("low"), table_name("highest")}, {}},
        {{table_name("referring"), table_name("low")}, {}}}) {
    const auto dumped = dump(tables);
    std::vector<std::string> found;
    for (const auto& entry : dumped.post_data()) {
      if (entry.type() == "FK CONSTRAINT") found.push_back(entry.name());
    }
    make(dumped);
    if (tables.size() == 3) {
      EXPECT_EQ(found, std::vector<std::string>{"referring referring_id_fkey"})
          << "all leaves of what it refers to are there";
    } else {
      EXPECT_EQ(found.size(), keys.size());
    }
  }
}

TEST_P(SchemaDumpTest, APartitionNeedsItsRootARootItsPartitions) {
  sql(kRichSchema);
  const auto of_leaf = dump({table_name("highest")});
  make(of_leaf);
  const auto leaf = entries(of_leaf);
  EXPECT_TRUE(leaf.contains("TABLE public.root"));
  EXPECT_TRUE(leaf.contains("TABLE public.high"));
  EXPECT_FALSE(leaf.contains("TABLE public.low"));
  EXPECT_TRUE(leaf.contains("INDEX ATTACH public.highest_v_idx"));
  const auto of_root = dump({table_name("root")});
  make(of_root);
  const auto root = entries(of_root);
  EXPECT_TRUE(root.contains("TABLE public.low"));
  EXPECT_TRUE(root.contains("TABLE ATTACH public.highest"));
  const auto of_child = dump({table_name("child")});
  make(of_child);
  EXPECT_TRUE(entries(of_child).contains("TABLE public.parent"));
  EXPECT_FALSE(entries(dump({table_name("parent")})).contains("TABLE public.child"));
}

// What is there is as it was after the rest is added.
TEST_P(SchemaDumpTest, NothingOfExistingTablesIsDumped) {
  sql(kRichSchema);
  const std::vector<std::vector<pb::TableName>> choices{
      {table_name("root"), table_name("low")},
      {table_name("referring")},
      {table_name("other"), table_name("parent")},
      {table_name("a\"; drop table x; --\nb", "s")},
  };
  for (const auto& existing : choices) {
    SCOPED_TRACE(existing.front().name());
    const auto copy = make(dump(existing));
    const auto rest = dump({}, existing);
    for (const auto& entry : rest.pre_data()) {
      for (const auto& table : existing) {
        EXPECT_FALSE(entry.type() == "TABLE" && entry.name() == table.name()) << entry.name();
      }
    }
    // What both need, such as types, is in both: a receiver keeps what it has.
    pqxx::connection connection(copy);
    pqxx::nontransaction session(connection);
    session.exec("SET check_function_bodies = off; SET client_min_messages = warning");
    for (const auto* part : {&rest.pre_data(), &rest.post_data()}) {
      for (const auto& entry : *part) {
        try {
          session.exec(entry.sql());
        } catch (const pqxx::sql_error& e) {
          const std::string said = e.what();
          EXPECT_TRUE(said.find("already") != std::string::npos ||
                      said.find("multiple primary keys") != std::string::npos)
              << entry.type() << " " << entry.name() << ": " << said;
        }
      }
    }
    const auto tables = [](const std::string& conninfo) {
      return harness::query_value(
          conninfo,
          "SELECT string_agg(format('%s %s %s', c.oid::regclass, c.relkind, (SELECT count(*) FROM "
          "pg_constraint k WHERE k.conrelid = c.oid AND k.contype <> 'f')), ' ' ORDER BY "
          "c.oid::regclass::text) FROM "
          "pg_class c WHERE c.relkind IN ('r', 'p', 'v', 'm') AND relnamespace::regnamespace::text "
          "IN ('public', 's')");
    };
    EXPECT_EQ(tables(copy), tables(conninfo()));
  }
}

// A partition that comes later gets its root's key and indexes when it is attached, and no others.
TEST_P(SchemaDumpTest, APartitionIsAttachedToARootThatExists) {
  sql(kRichSchema);
  const auto complete = pg_dump_of(make(dump({table_name("root")})));
  const auto grown = make(dump({table_name("low")}));
  add(grown, dump({table_name("root")}, {table_name("root"), table_name("low")}));
  EXPECT_EQ(pg_dump_of(grown), complete);
}

TEST_P(SchemaDumpTest, ASequenceStaysWithTheOtherTableThatUsesIt) {
  sql("CREATE TABLE mine (id serial, n int GENERATED ALWAYS AS IDENTITY);"
      "CREATE TABLE alone (id serial); CREATE TABLE yours (id int DEFAULT nextval('mine_id_seq'))");
  const auto found = entries(dump({}, {table_name("mine"), table_name("alone")}));
  EXPECT_EQ(found,
            (std::set<std::string>{"SEQUENCE public.mine_id_seq",
                                   "SEQUENCE OWNED BY public.mine_id_seq", "TABLE public.yours"}));
}

TEST_P(SchemaDumpTest, IsOfTheSnapshot) {
  sql("CREATE TABLE t (id int)");
  auto snapshot = wal::CopySnapshot::make(conninfo(), {});
  ASSERT_TRUE(succeeded(snapshot));
  sql("CREATE TABLE later (id int)");
  options_.snapshot = snapshot->name();
  EXPECT_EQ(entries(dump()), std::set<std::string>{"TABLE public.t"});
  EXPECT_EQ(entries(dump({table_name("t")})), std::set<std::string>{"TABLE public.t"});
}

TEST_P(SchemaDumpTest, UnchosenTablesNeedNotBeReadable) {
  sql("CREATE TABLE mine (id int); CREATE TABLE \"the\"\"irs\" (id int); DROP ROLE IF EXISTS "
      "dumper;"
      "CREATE ROLE dumper LOGIN REPLICATION; GRANT SELECT ON mine TO dumper");
  wal::MasterSession dumper(conninfo() + " user=dumper");
  options_.conninfo = conninfo() + " user=dumper";
  options_.tables = {table_name("mine")};
  EXPECT_TRUE(succeeded(dump_schema(dumper, options_)));
  options_.tables.clear();
  const auto all = dump_schema(dumper, options_);
  sql("DROP OWNED BY dumper; DROP ROLE dumper");
  ASSERT_FALSE(all.ok());
  EXPECT_EQ(all.error().code, ErrorCode::kMaster);
  EXPECT_NE(all.error().message.find("permission denied for table the\"irs"), std::string::npos)
      << one_line(all.error());
}

TEST_P(SchemaDumpTest, StopEndsADumpThatWaitsForALock) {
  sql("CREATE TABLE t (id int)");
  pqxx::connection session(conninfo());
  pqxx::work lock(session);
  lock.exec("LOCK TABLE t");
  std::stop_source stop;
  auto dumping = std::async(std::launch::async,
                            [&] { return dump_schema(master(), options_, stop.get_token()); });
  EXPECT_TRUE(harness::eventually(
      [&] { return value("SELECT count(*) FROM pg_locks WHERE NOT granted") == "1"; }));
  stop.request_stop();
  EXPECT_EQ(dumping.wait_for(std::chrono::seconds(5)), std::future_status::ready);
  lock.abort();
  const auto dumped = dumping.get();
  ASSERT_FALSE(dumped.ok());
  EXPECT_EQ(dumped.error().message, "pg_dump was stopped");
}

// Nobody sees it in the list of processes, and no file stays.
TEST_P(SchemaDumpTest, ThePasswordIsNotInTheArguments) {
  const auto directory = fs::path(testing::TempDir()) /
                         harness::query_value(conninfo(), "SELECT 'tools_' || pg_backend_pid()");
  fs::create_directories(directory);
  std::ofstream(directory / "pg_dump") << "#!/bin/sh\n[ \"$1\" = --version ] && echo 'pg_dump "
                                          "(PostgreSQL) 99.1' && exit\necho \"arguments: $@\" >&2; "
                                          "env | grep ^PG >&2; cat \"$PGSERVICEFILE\" >&2; ls -ld "
                                          "\"$(dirname $PGSERVICEFILE)\" >&2; exit 3\n";
  std::ofstream(directory / "pg_restore") << "#!/bin/sh\n";
  for (const auto* name : {"pg_dump", "pg_restore"})
    fs::permissions(directory / name, fs::perms::owner_all);
  options_.bin_dir = directory;
  options_.conninfo = conninfo() + " password=secret keepalives_idle=77 sslmode=disable";
  const auto dumped = dump_schema(master(), options_);
  fs::remove_all(directory);
  ASSERT_FALSE(dumped.ok());
  const auto& said = dumped.error().message;
  const auto arguments = said.substr(0, said.find("\nPG"));
  EXPECT_NE(arguments.find("exit code 3"), std::string::npos) << said;
  EXPECT_EQ(arguments.find("secret"), std::string::npos) << said;
  EXPECT_NE(said.find("PGPASSWORD=secret"), std::string::npos) << said;
  EXPECT_NE(said.find("PGSSLMODE=disable"), std::string::npos) << said;
  EXPECT_NE(said.find("keepalives_idle=77"), std::string::npos) << said;
  EXPECT_NE(said.find("drwx------"), std::string::npos) << said;
  const auto file = said.find("PGSERVICEFILE=") + std::string("PGSERVICEFILE=").size();
  const auto service = said.substr(file, said.find('\n', file) - file);
  EXPECT_TRUE(service.starts_with("/")) << service;
  EXPECT_FALSE(fs::exists(fs::path(service).parent_path())) << service;
}

TEST_P(SchemaDumpTest, ATableThatIsNotThereIsNamed) {
  options_.tables = {table_name("nowhere")};
  const auto dumped = dump_schema(master(), options_);
  ASSERT_FALSE(dumped.ok());
  EXPECT_EQ(dumped.error().code, ErrorCode::kConfiguration);
  EXPECT_NE(dumped.error().message.find("public.nowhere"), std::string::npos);
}

// Debian's pg_dump, which packages.txt installs, is of this version: it dumps those up to it.
INSTANTIATE_TEST_SUITE_P(PostgreSql, SchemaDumpTest, testing::Values(14, kToolsVersion),
                         testing::PrintToStringParamName());

class SchemaDumpToolsTest : public wal::EveryVersion {};

TEST_P(SchemaDumpToolsTest, OneThatIsOlderThanTheMasterIsRefusedWithTheRemedy) {
  const auto dumped = dump_schema(master(), {.conninfo = conninfo()});
  if (dumped.ok()) GTEST_SKIP() << "there is a newer pg_dump here";
  EXPECT_EQ(dumped.error().code, ErrorCode::kConfiguration);
  EXPECT_EQ(
      dumped.error().message,
      fmt::format("the master is PostgreSQL {}, and the pg_dump on the sender's host is only {}",
                  version(), kToolsVersion));
  EXPECT_EQ(dumped.error().hint,
            fmt::format("install postgresql-client-{} (or newer) on the sender's host, or give "
                        "--pg-bin-dir",
                        version()));
}

INSTANTIATE_TEST_SUITE_P(PostgreSql, SchemaDumpToolsTest, testing::Values(16, 17, 18),
                         testing::PrintToStringParamName());

TEST(ClientTools, OfADirectoryThatIsNamedOrNone) {
  const auto none = find_client_tools("/nowhere", 15);
  ASSERT_FALSE(none.ok());
  EXPECT_EQ(none.error().message,
            "the master is PostgreSQL 15, and there is no pg_dump in /nowhere");
  const auto found = find_client_tools("", 14);
  ASSERT_TRUE(succeeded(found));
  EXPECT_GE(found->major_version, 14);
  EXPECT_TRUE(fs::exists(fs::path(found->directory) / "pg_restore"));
}

}  // namespace
}  // namespace bitacora::engine
