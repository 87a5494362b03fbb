// Types that users make: domains, composites, enums, ranges, and those of extensions. Their OIDs
// differ between the servers.
#include <gtest/gtest.h>

#include "tests/engine/table_life.h"
#include "tests/postgres/database.h"

namespace bitacora::harness {
namespace {

// A type, and values of it: the first two go in, the third is what the first becomes.
struct UserType {
  const char* name;
  const char* definitions;
  const char* type;
  std::vector<const char*> values;
  bool key = true;  // can be one
};

const std::vector<UserType>& user_types() {
  static const std::vector<UserType> types = {
      {"enum", "CREATE TYPE u AS ENUM ('low', 'ñ', 'it''s')", "u", {"'low'", "'it''s'", "'ñ'"}},
      {"enum in another order of making",
       "CREATE TYPE u AS ENUM ('b'); ALTER TYPE u ADD VALUE 'a' BEFORE 'b'",
       "u",
       {"'a'", "'b'", "NULL"},
       false},
      {"array of an enum",
       "CREATE TYPE u AS ENUM ('a', 'b')",
       "u[]",
       {"'{a,b}'", "'{{a},{NULL}}'", "'{}'"}},
      {"domain", "CREATE DOMAIN u AS numeric(6, 2) CHECK (VALUE > 0)", "u", {"1.5", "2", "3"}},
      {"domain over a domain",
       "CREATE DOMAIN v AS text; CREATE DOMAIN u AS v NOT NULL DEFAULT ''",
       "u",
       {"'a'", "''", "'b'"}},
      {"domain over an array",
       "CREATE DOMAIN u AS int[] CHECK (array_length(VALUE, 1) < 4)",
       "u",
       {"'{1}'", "'{1,NULL}'", "'{}'"}},
      {"array of a domain",
       "CREATE DOMAIN u AS int CHECK (VALUE > 0)",
       "u[]",
       {"'{1,2}'", "'{NULL}'", "'{3}'"}},
      {"domain over an enum",
       "CREATE TYPE v AS ENUM ('a', 'b'); CREATE DOMAIN u AS v",
       "u",
       {"'a'", "'b'", "NULL"},
       false},
      {"composite",
       "CREATE TYPE u AS (i int, t text, n numeric)",
       "u",
       {"ROW(1, 'a, \"b\"', 1.50)", "ROW(NULL, '', NULL)", "ROW(2, NULL, 'NaN')"}},
      {"composite of user types",
       "CREATE TYPE e AS ENUM ('a', 'b'); CREATE DOMAIN d AS int; CREATE TYPE c AS (e e, d d);"
       "CREATE TYPE u AS (c c, cs c[], es e[])",
       "u",
       {"'(\"(a,1)\",\"{\"\"(b,2)\"\"}\",\"{a,NULL}\")'", "'(,,)'", "'(\"(b,)\",{},)'"}},
      {"array of a composite",
       "CREATE TYPE u AS (i int, t text)",
       "u[]",
       {"ARRAY[ROW(1, 'a')::u, NULL]", "'{}'", "ARRAY[ROW(NULL, NULL)::u]"}},
      {"a table's row type",
       "CREATE TABLE u (i int, gone int, t text); ALTER TABLE u DROP gone",
       "u",
       {"ROW(1, 'a')", "ROW(NULL, '')", "NULL"},
       false},
      {"range",
       "CREATE TYPE u AS RANGE (subtype = float8, subtype_diff = float8mi)",
       "u",
       {"'[1.5,2.5)'", "'empty'", "'(,)'"}},
      {"array of a range",
       "CREATE TYPE u AS RANGE (subtype = text)",
       "u[]",
       {"'{\"[a,b)\"}'", "'{empty,NULL}'", "'{}'"}},
      {"range of an enum",
       "CREATE TYPE e AS ENUM ('a', 'b'); CREATE TYPE u AS RANGE (subtype = e)",
       "u",
       {"'[a,b]'", "'[b,)'", "'empty'"}},
      {"multirange",
       "CREATE TYPE u_range AS RANGE (subtype = numeric, multirange_type_name = u)",
       "u",
       {"'{[1,2), [3,4)}'", "'{}'", "'{(,5]}'"}},
      {"hstore", "SELECT 1", "hstore", {"'a=>1, \"b c\"=>NULL'", "''", "'k=>\"v\\\"\"'"}},
      {"citext", "SELECT 1", "citext", {"'Juan'", "'PEPE'", "'juan'"}},
      {"array of citext", "SELECT 1", "citext[]", {"'{Juan,NULL}'", "'{}'", "'{juan}'"}},
  };
  return types;
}

TableLife life_of(const UserType& type) {
  const std::string definition = std::string(type.definitions) + ";";
  const std::string column = std::string(" ") + type.type;
  const auto value = [&](std::size_t i) { return std::string(type.values[i]); };
  const std::string other_of_key = type.key ? value(2) : value(1);
  TableLife life{type.name,
                 definition + "CREATE TABLE t (id int PRIMARY KEY, c" + column +
                     "); CREATE TABLE whole (c" + column +
                     "); ALTER TABLE whole REPLICA IDENTITY FULL",
                 {"INSERT INTO t VALUES (1, " + value(0) + "), (2, " + value(1) + ")",
                  "INSERT INTO whole SELECT c FROM t ORDER BY id",
                  "UPDATE t SET c = " + value(2) + " WHERE id = 1",
                  "UPDATE whole SET c = " + value(2) + " WHERE c::text = (SELECT (" + value(0) +
                      ")::" + type.type + "::text)",
                  "DELETE FROM whole WHERE c::text = (SELECT c::text FROM t WHERE id = 2)"},
                 {"t", "whole"}};
  if (!type.key) return life;
  life.tables += "; CREATE TABLE k (c" + column + " PRIMARY KEY, v int)";
  life.changes.insert(
      life.changes.end(),
      {"INSERT INTO k VALUES (" + value(0) + ", 1), (" + value(1) + ", 2)",
       "UPDATE k SET v = v + 10 WHERE v = 1", "UPDATE k SET c = " + value(2) + " WHERE v = 11",
       "DELETE FROM k WHERE v = 2"});
  life.compared.emplace_back("k");
  return life;
}

// No type without a send function comes with the server but aclitem.
TableLife text_only_types() {
  return {"columns that come as text",
          "CREATE TABLE t (id int PRIMARY KEY, a aclitem, n int); CREATE TABLE whole (a aclitem);"
          "ALTER TABLE whole REPLICA IDENTITY FULL",
          {"INSERT INTO t VALUES (1, NULL, 1), (2, 'postgres=r/postgres', 2)",
           "UPDATE t SET a = 'postgres=w/postgres', n = 3 WHERE id = 1",
           "INSERT INTO whole SELECT a FROM t ORDER BY id",
           "DELETE FROM whole WHERE a::text LIKE '%=r/%'"},
          {"t", "whole"}};
}

std::vector<TableLife> cases() {
  std::vector<TableLife> all = {
      {"extensions",
       "CREATE EXTENSION hstore SCHEMA public; CREATE EXTENSION citext SCHEMA public",
       {},
       {}}};
  for (const auto& type : user_types()) all.push_back(life_of(type));
  all.push_back(text_only_types());
  return all;
}

TABLE_LIFE(TableLifeTypes, cases)

// The case of a citext key may change although the key stays equal.
TEST(TableLifeTypesOfExtensions, CitextKeyChangesItsCase) {
  Pair pair;
  pair.on_both("CREATE EXTENSION citext; CREATE TABLE t (name citext PRIMARY KEY, n int)");
  pair.start();
  pair.on_master("INSERT INTO t VALUES ('juan', 1), ('Pepe', 2)");
  pair.on_master("UPDATE t SET name = 'JUAN' WHERE n = 1");
  pair.wait_applied();
  EXPECT_TRUE(pair.same_content("public.t"));
}

TEST(TableLifeTypesMissing, ReceiverNamesTheType) {
  Pair pair;
  pair.on_master("CREATE TYPE mood AS ENUM ('ok'); CREATE TABLE t (id int PRIMARY KEY, m mood)");
  pair.on_standby("CREATE TABLE t (id int PRIMARY KEY, m text)");
  pair.start();
  EXPECT_EQ(pair.receiver().wait(std::chrono::seconds(20)), 5);
  EXPECT_NE(pair.story().find("needs type public.mood"), std::string::npos) << pair.story();
  pair.on_standby("CREATE TYPE mood AS ENUM ('ok')");
  pair.on_master("INSERT INTO t VALUES (1, 'ok')");
  pair.start_receiver();
  pair.wait_applied();
  EXPECT_TRUE(pair.same_content("public.t"));
}

}  // namespace
}  // namespace bitacora::harness
