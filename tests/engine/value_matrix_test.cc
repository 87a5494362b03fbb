// Every built-in type that a column can have, and arrays of it, with the values at its edges:
// inserted, updated and found again by REPLICA IDENTITY FULL, equal as text and as binary image.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <pqxx/pqxx>

#include "tests/engine/table_life.h"
#include "tests/engine/value_samples.h"
#include "tests/postgres/database.h"

namespace bitacora::harness {
namespace {

constexpr std::size_t kValuesMin = 400;

struct BuiltInType {
  std::string name;   // quoted, with its schema
  std::string image;  // SQL for the binary form of v; empty: the type has none
};

// All but pseudo-types, composites and the arrays that belong to another type.
std::map<std::string, BuiltInType> built_in_types(const std::string& conninfo) {
  pqxx::connection connection(conninfo);
  pqxx::nontransaction session(connection);
  std::map<std::string, BuiltInType> types;
  // Some types share another one's function, hence the cast to what it takes.
  for (const auto row : session.exec(R"(
           SELECT t.typname, format('pg_catalog.%I', t.typname),
                  format('encode(%s(v%s), ''hex'')', p.oid::regproc,
                         CASE WHEN a.typtype = 'b' THEN '::' || a.oid::regtype END),
                  p.oid IS NOT NULL
           FROM pg_type t LEFT JOIN pg_proc p ON p.oid = t.typsend
           LEFT JOIN pg_type a ON a.oid = p.proargtypes[0]
           WHERE t.typnamespace = 'pg_catalog'::regnamespace
           AND t.typtype IN ('b', 'r', 'm') AND t.typisdefined
           AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid))")) {
    types[row[0].as<std::string>()] = {row[1].as<std::string>(),
                                       row[3].as<bool>() ? row[2].as<std::string>() : ""};
  }
  return types;
}

// Types of the catalogues whose input function refuses everything: no standby can be given one.
bool takes_no_input(const std::string& conninfo, const BuiltInType& type) {
  try {
    execute(conninfo, "SELECT ''::" + type.name);
  } catch (const pqxx::feature_not_supported&) {
    return true;
  } catch (const pqxx::sql_error&) {
  }
  return false;
}

std::vector<std::string> spelled(const ValueSamples& samples, const BuiltInType& type) {
  std::vector<std::string> values = {"NULL::" + type.name};
  for (const auto& value : samples.values) {
    values.push_back(fmt::format("$value${}$value$::{}", value, type.name));
  }
  for (const auto& expression : samples.expressions) values.push_back("(" + expression + ")");
  return values;
}

// Arrays of a value in turn: plain with NULL, empty, nested, with other lower bounds.
std::string arrays_of(const std::string& type) {
  return fmt::format(
      "CASE id % 5 WHEN 0 THEN NULL WHEN 1 THEN ARRAY[v, NULL, v] WHEN 2 THEN"
      " CASE WHEN id > 5 THEN array_fill(v, ARRAY[1]) ELSE '{{}}'::{}[] END"
      " WHEN 3 THEN ARRAY[ARRAY[v, NULL], ARRAY[v, v]]"
      " ELSE array_fill(v, ARRAY[2, 1], ARRAY[-3, 7]) END",
      type);
}

std::string images(const std::string& table, const BuiltInType& type) {
  if (type.image.empty()) return "SELECT id, v FROM " + table;
  return fmt::format("SELECT id, v, {}, a, encode(array_send(a), 'hex') FROM {}", type.image,
                     table);
}

TableLife life_of(const ValueSamples& samples, const BuiltInType& type) {
  const auto columns = fmt::format("v {0}, a {0}[]", type.name);
  TableLife life{samples.type,
                 fmt::format("CREATE TABLE k (id int PRIMARY KEY, {0});"
                             "CREATE TABLE f (id int, {0}); ALTER TABLE f REPLICA IDENTITY FULL",
                             columns),
                 {},
                 {images("k", type), images("f", type)}};
  const auto values = spelled(samples, type);
  for (std::size_t i = 0; i < values.size(); ++i) {
    life.changes.push_back(fmt::format("INSERT INTO k (id, v) VALUES ({}, {})", i, values[i]));
  }
  life.changes.insert(
      life.changes.end(),
      {// pgoutput fails on an array whose elements have no binary form.
       "UPDATE k SET a = " + (type.image.empty() ? "NULL" : arrays_of(type.name)),
       "INSERT INTO f SELECT * FROM k",
       "UPDATE f SET id = id + 1000",  // found by all that it was
       fmt::format("UPDATE k SET v = o.v, a = o.a FROM k o WHERE o.id = (k.id + 1) % {}",
                   values.size()),
       "UPDATE f SET v = NULL WHERE id % 3 = 0", "UPDATE f SET a = NULL WHERE id % 3 = 1",
       "DELETE FROM f WHERE id % 2 = 0"});
  return life;
}

std::vector<TableLife> lives() {
  const auto types = built_in_types(shared_master().conninfo());
  std::vector<TableLife> all;
  for (const auto& samples : value_samples()) {
    const auto type = types.find(samples.type);
    if (type != types.end()) all.push_back(life_of(samples, type->second));
  }
  return all;
}

TEST(ValueMatrix, EveryTypeHasSamples) {
  const auto conninfo = shared_master().conninfo();
  std::size_t values = 0;
  for (const auto& samples : value_samples()) {
    values +=
        2 * (samples.values.size() + samples.expressions.size());  // itself and an array of it
  }
  EXPECT_GE(values, kValuesMin);
  for (const auto& [name, type] : built_in_types(conninfo)) {
    const bool sampled = std::any_of(value_samples().begin(), value_samples().end(),
                                     [&name = name](const auto& s) { return s.type == name; });
    EXPECT_TRUE(sampled || takes_no_input(conninfo, type)) << "no sample of type " << name;
  }
}

TABLE_LIFE(ValueMatrix, lives)

std::vector<TableLife> largest() {
  return {{"10 MB of text",
           "CREATE TABLE t (v text, b bytea); ALTER TABLE t REPLICA IDENTITY FULL",
           {"INSERT INTO t VALUES (repeat('0123456789', 1048576), NULL), ('small', NULL)",
            "UPDATE t SET b = convert_to(v, 'UTF8')", "DELETE FROM t WHERE v = 'small'"}}};
}

TABLE_LIFE(ValueMatrixLargest, largest)

}  // namespace
}  // namespace bitacora::harness
