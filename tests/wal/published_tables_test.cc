#include "wal/published_tables.h"

#include <algorithm>
#include <map>
#include <pqxx/pqxx>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "proto/relation.h"
#include "tests/wal/every_version.h"
#include "wal/pgoutput_decoder.h"

namespace bitacora::wal {
namespace {

std::string describe(const pb::Relation& relation) {
  std::vector<std::string> columns;
  for (const auto& column : relation.columns()) {
    columns.push_back(fmt::format("{}{} {} {}", column.name(), column.key() ? "*" : "",
                                  column.type_oid(), column.type_modifier()));
  }
  return fmt::format("{} {} {}: {}", relation.oid(), proto::qualified_name(relation),
                     pb::ReplicaIdentity_Name(relation.replica_identity()),
                     fmt::join(columns, ", "));
}

std::string describe(const pb::Type& type) {
  return fmt::format("{} {}", type.oid(), proto::qualified_name(type.schema(), type.name()));
}

template <class T>
std::vector<std::string> sorted(const std::vector<T>& described) {
  std::vector<std::string> lines;
  for (const auto& one : described) lines.push_back(describe(one));
  std::sort(lines.begin(), lines.end());
  return lines;
}

// "id* int4, name text"; the key columns marked.
std::string short_columns(const pb::Relation& relation) {
  std::vector<std::string> names;
  for (const auto& column : relation.columns()) {
    names.push_back(column.name() + (column.key() ? "*" : ""));
  }
  return fmt::format("{}", fmt::join(names, " "));
}

class PublishedTablesTest : public EveryVersion {
 protected:
  PublishedTables tables(const std::string& publication = "p") {
    auto answer = published_tables(master(), publication);
    EXPECT_TRUE(succeeded(answer));
    return answer.ok() ? *answer : PublishedTables{};
  }

  pb::Relation table(const std::string& name) {
    for (const auto& relation : tables().relations) {
      if (relation.name() == name) return relation;
    }
    ADD_FAILURE() << name << " is not published";
    return {};
  }

  // What pgoutput itself says of the tables whose changes are in slot `s`.
  PublishedTables said_by_pgoutput() {
    PublishedTables said;
    PgOutputDecoder decoder(PgOutputOptions{1, false});
    pqxx::connection connection(conninfo());
    pqxx::nontransaction session(connection);
    const auto rows = session.exec(
        "SELECT data FROM pg_logical_slot_get_binary_changes('s', NULL, NULL, 'proto_version', '1',"
        " 'publication_names', 'p')");
    for (const auto row : rows) {
      const pqxx::binarystring bytes(row[0]);
      const auto message = decoder.decode({bytes.get(), bytes.size()});
      EXPECT_TRUE(succeeded(message));
      if (!message.ok()) continue;
      if (const auto* relation = std::get_if<RelationMessage>(*message)) {
        said.relations.push_back(relation->relation);
      } else if (const auto* type = std::get_if<TypeMessage>(*message)) {
        said.types.push_back(type->type);
      }
    }
    return said;
  }
};

// The catalogue's answer stands in for messages that have not come yet: it must be the same.
TEST_P(PublishedTablesTest, SaysWhatPgoutputSays) {
  sql(R"(
    CREATE TYPE mood AS ENUM ('sad', 'ok');
    CREATE TYPE pair AS (a int, b text);
    CREATE DOMAIN amount AS numeric(10, 2);
    CREATE DOMAIN positive AS amount CHECK (VALUE > 0);
    CREATE DOMAIN my_mood AS mood;
    CREATE SCHEMA "Other Schema";
    CREATE TABLE plain (id int PRIMARY KEY, name varchar(10), "Odd Name" timestamptz(3));
    CREATE TABLE compound (b int, v text, a int, PRIMARY KEY (a, b));
    CREATE TABLE keyless (v text);
    CREATE TABLE whole (id int PRIMARY KEY, v text); ALTER TABLE whole REPLICA IDENTITY FULL;
    CREATE TABLE nothing (id int PRIMARY KEY); ALTER TABLE nothing REPLICA IDENTITY NOTHING;
    CREATE TABLE by_index (id int PRIMARY KEY, code text NOT NULL);
    CREATE UNIQUE INDEX code_index ON by_index (code);
    ALTER TABLE by_index REPLICA IDENTITY USING INDEX code_index;
    CREATE TABLE covering (id int, extra int, PRIMARY KEY (id) INCLUDE (extra));
    CREATE TABLE deferred (id int PRIMARY KEY DEFERRABLE, v int);
    CREATE TABLE dropped (id int PRIMARY KEY, gone int, v int); ALTER TABLE dropped DROP gone;
    CREATE TABLE computed (id int PRIMARY KEY, double int GENERATED ALWAYS AS (id * 2) STORED, v int);
    CREATE TABLE "Other Schema"."Select" ("from" int PRIMARY KEY);
    CREATE TABLE typed (id positive PRIMARY KEY, m mood, ms mood[], p pair, mm my_mood, a amount[],
                        n information_schema.sql_identifier);
    CREATE PUBLICATION p FOR ALL TABLES)");
  sql("SELECT pg_create_logical_replication_slot('s', 'pgoutput')");
  sql(R"(
    INSERT INTO plain VALUES (1); INSERT INTO compound VALUES (1, '', 1); INSERT INTO keyless VALUES ('');
    INSERT INTO whole VALUES (1); INSERT INTO nothing VALUES (1); INSERT INTO by_index VALUES (1, '');
    INSERT INTO covering VALUES (1, 1); INSERT INTO deferred VALUES (1); INSERT INTO dropped VALUES (1);
    INSERT INTO computed (id) VALUES (1); INSERT INTO "Other Schema"."Select" VALUES (1);
    INSERT INTO typed VALUES (1))");
  const auto said = said_by_pgoutput();
  EXPECT_EQ(said.relations.size(), 12u);
  EXPECT_EQ(sorted(tables().relations), sorted(said.relations));
  EXPECT_EQ(sorted(tables().types), sorted(said.types));
}

TEST_P(PublishedTablesTest, KeyFlagsAndIdentities) {
  struct Case {
    std::string name;
    std::string identity;  // clause of ALTER TABLE, if any
    pb::ReplicaIdentity expected;
    std::string columns;
  };
  const std::vector<Case> cases{
      {"by_primary_key", "", pb::REPLICA_IDENTITY_DEFAULT, "id* code v"},
      {"by_index", "USING INDEX by_index_code", pb::REPLICA_IDENTITY_INDEX, "id code* v"},
      {"by_everything", "FULL", pb::REPLICA_IDENTITY_FULL, "id* code* v*"},
      {"by_nothing", "NOTHING", pb::REPLICA_IDENTITY_NOTHING, "id code v"},
  };
  for (const Case& c : cases) {
    sql(
        fmt::format("CREATE TABLE {0} (id int PRIMARY KEY, code text NOT NULL, v text);"
                    "CREATE UNIQUE INDEX {0}_code ON {0} (code)",
                    c.name));
    if (!c.identity.empty())
      sql(fmt::format("ALTER TABLE {} REPLICA IDENTITY {}", c.name, c.identity));
  }
  sql("CREATE PUBLICATION p FOR ALL TABLES");
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    const auto relation = table(c.name);
    EXPECT_EQ(relation.replica_identity(), c.expected);
    EXPECT_EQ(short_columns(relation), c.columns);
  }
}

TEST_P(PublishedTablesTest, ATypeIsNamedAfterItsBase) {
  sql("CREATE SCHEMA s; CREATE TYPE s.mood AS ENUM ('ok'); CREATE DOMAIN inner_domain AS s.mood;"
      "CREATE DOMAIN outer_domain AS inner_domain; CREATE DOMAIN number AS int;"
      "CREATE TABLE t (a s.mood, b outer_domain, c number, d int); CREATE PUBLICATION p FOR TABLE "
      "t");
  std::map<std::uint32_t, std::string> names;
  for (const auto& type : tables().types) {
    EXPECT_TRUE(
        names.emplace(type.oid(), proto::qualified_name(type.schema(), type.name())).second);
  }
  EXPECT_EQ(names.size(), 3u);
  const auto relation = table("t");
  const auto name_of = [&](int column) { return names[relation.columns(column).type_oid()]; };
  EXPECT_EQ(name_of(0), "s.mood");
  EXPECT_EQ(name_of(1), "s.mood");
  EXPECT_EQ(name_of(2), "pg_catalog.int4");
  EXPECT_EQ(relation.columns(3).type_oid(), 23u);
}

TEST_P(PublishedTablesTest, ColumnListsLeaveColumnsOut) {
  if (version() < 15) GTEST_SKIP() << "column lists came with PostgreSQL 15";
  sql("CREATE TABLE t (id int PRIMARY KEY, secret text, v text); CREATE TABLE whole (id int, v "
      "text);"
      "CREATE PUBLICATION p FOR TABLE t (v, id), whole");
  EXPECT_EQ(short_columns(table("t")), "id* v");
  EXPECT_EQ(short_columns(table("whole")), "id v");
}

TEST_P(PublishedTablesTest, GeneratedColumnsAreLeftOut) {
  sql("CREATE TABLE t (id int PRIMARY KEY, g int GENERATED ALWAYS AS (id + 1) STORED, v text,"
      " i int GENERATED ALWAYS AS IDENTITY); CREATE PUBLICATION p FOR ALL TABLES");
  EXPECT_EQ(short_columns(table("t")), "id* v i") << "an identity column is an ordinary one";
}

TEST_P(PublishedTablesTest, ATableWithoutColumnsIsStillATable) {
  sql("CREATE TABLE bare (); CREATE TABLE emptied (v int); ALTER TABLE emptied DROP v;"
      "CREATE PUBLICATION p FOR TABLE bare, emptied");
  EXPECT_EQ(table("bare").columns_size(), 0);
  EXPECT_EQ(table("emptied").columns_size(), 0);
}

TEST_P(PublishedTablesTest, PartitionsAreNamedAsTheyArrive) {
  sql("CREATE TABLE root (id int PRIMARY KEY) PARTITION BY RANGE (id);"
      "CREATE TABLE leaf PARTITION OF root DEFAULT;"
      "CREATE PUBLICATION p FOR TABLE root;"
      "CREATE PUBLICATION via_root FOR TABLE root WITH (publish_via_partition_root)");
  ASSERT_EQ(tables().relations.size(), 1u);
  EXPECT_EQ(tables().relations[0].name(), "leaf");
  ASSERT_EQ(tables("via_root").relations.size(), 1u);
  EXPECT_EQ(tables("via_root").relations[0].name(), "root");
}

TEST_P(PublishedTablesTest, AnotherPublicationsTablesAreNotAmongThem) {
  sql("CREATE TABLE mine (id int); CREATE TABLE theirs (id int);"
      "CREATE PUBLICATION p FOR TABLE mine; CREATE PUBLICATION other FOR TABLE theirs");
  ASSERT_EQ(tables().relations.size(), 1u);
  EXPECT_EQ(tables().relations[0].name(), "mine");
  EXPECT_TRUE(tables("nobody").relations.empty());
}

ON_EVERY_VERSION(PublishedTablesTest);

}  // namespace
}  // namespace bitacora::wal
