#include "wal/schema_objects.h"

#include <functional>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "proto/relation.h"

namespace bitacora::wal {
namespace {

constexpr const char* kAsking = "cannot find what the tables need";

// `whole`: it comes with its partitions. Foreign keys are added last, since they must not bring the
// table they refer to. What depends on a part of the root ('P') is a partition's own.
constexpr const char* kClosure = R"(
WITH RECURSIVE closure (classid, objid, whole) AS (
  SELECT 'pg_class'::regclass::oid, t.oid, true FROM unnest($1::oid[]) AS t (oid)
  UNION
  SELECT next.classid, next.objid, next.whole FROM closure m CROSS JOIN LATERAL (
    SELECT d.refclassid, d.refobjid, false FROM pg_depend d WHERE d.classid = m.classid AND d.objid = m.objid
    UNION ALL
    SELECT d.classid, d.objid, m.whole AND coalesce(c.relispartition AND c.relkind IN ('r', 'p', 'f'), false)
    FROM pg_depend d
    LEFT JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid
    LEFT JOIN pg_constraint k ON d.classid = 'pg_constraint'::regclass AND k.oid = d.objid
    LEFT JOIN pg_trigger t ON d.classid = 'pg_trigger'::regclass AND t.oid = d.objid
    WHERE d.refclassid = m.classid AND d.refobjid = m.objid AND d.deptype IN ('a', 'i', 'S')
      AND (d.classid IN ('pg_attrdef'::regclass, 'pg_policy'::regclass, 'pg_rewrite'::regclass,
                         'pg_statistic_ext'::regclass, 'pg_amop'::regclass, 'pg_amproc'::regclass,
                         'pg_type'::regclass)
           OR k.contype <> 'f' OR NOT t.tgisinternal OR c.relkind IN ('i', 'I', 'S', 'c')
           OR m.whole AND c.relispartition)
  ) AS next (classid, objid, whole)
), relations AS (
  SELECT objid AS oid, bool_or(whole) AS whole FROM closure WHERE classid = 'pg_class'::regclass GROUP BY 1
), tree (root, oid) AS (
  SELECT r.oid, r.oid FROM relations r
  UNION ALL
  SELECT t.root, i.inhrelid FROM tree t
  JOIN pg_class c ON c.oid = t.oid AND c.relkind = 'p' JOIN pg_inherits i ON i.inhparent = t.oid
), filled AS (
  SELECT oid FROM relations WHERE whole
  UNION
  SELECT t.root FROM tree t JOIN pg_class leaf ON leaf.oid = t.oid AND leaf.relkind <> 'p'
  LEFT JOIN relations r ON r.oid = leaf.oid GROUP BY 1 HAVING bool_and(coalesce(r.whole, false))
)
SELECT classid, objid FROM closure
UNION SELECT 'pg_constraint'::regclass, k.oid FROM pg_constraint k
WHERE k.contype = 'f' AND k.conrelid IN (SELECT oid FROM relations) AND k.confrelid IN (SELECT oid FROM filled))";

constexpr const char* kBelongings = R"(
WITH RECURSIVE parts (classid, objid) AS (
  SELECT 'pg_class'::regclass::oid, t.oid FROM unnest($1::oid[]) AS t (oid)
  UNION
  SELECT d.classid, d.objid FROM parts m
  JOIN pg_depend d ON d.refclassid = m.classid AND d.refobjid = m.objid AND d.deptype IN ('a', 'i', 'S')
  LEFT JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid
  WHERE d.classid IN ('pg_attrdef'::regclass, 'pg_policy'::regclass, 'pg_rewrite'::regclass,
                      'pg_statistic_ext'::regclass, 'pg_constraint'::regclass, 'pg_trigger'::regclass)
     OR c.relkind IN ('i', 'I') OR c.relkind = 'S' AND (d.deptype = 'i' OR NOT EXISTS (
       SELECT FROM pg_depend u JOIN pg_attrdef a ON u.classid = 'pg_attrdef'::regclass AND a.oid = u.objid
       WHERE u.refclassid = 'pg_class'::regclass AND u.refobjid = c.oid AND a.adrelid <> ALL ($1::oid[])))
)
SELECT classid, objid FROM parts)";

// In double quotes nothing of a pattern has a meaning of its own.
constexpr const char* kRelationsQuery = R"(
SELECT c.oid, pg_catalog.concat('"', replace(n.nspname, '"', '""'), '"."', replace(c.relname, '"', '""'), '"')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND n.nspname !~ '^pg_'
  AND n.nspname NOT IN ('information_schema', 'bitacora'))";

std::string array_of(const std::vector<std::uint32_t>& oids) {
  return fmt::format("{{{}}}", fmt::join(oids, ","));
}

// In a transaction that has not asked for anything yet.
void enter(pqxx::work& tx, const std::string& snapshot) {
  if (snapshot.empty()) return;
  tx.exec("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY");
  tx.exec("SET TRANSACTION SNAPSHOT " + tx.quote(snapshot));
}

enum class Unknown { kRefuse, kPassOver };

Result<std::vector<std::uint32_t>> find_tables(pqxx::work& tx,
                                               const std::vector<pb::TableName>& tables,
                                               Unknown unknown) {
  std::vector<std::uint32_t> oids;
  for (const auto& table : tables) {
    const auto rows = tx.exec_params(
        "SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p')",
        table.schema(), table.name());
    if (rows.empty() && unknown == Unknown::kPassOver) continue;
    if (rows.empty()) {
      return Error{ErrorCode::kConfiguration,
                   fmt::format("the master has no table {}",
                               proto::qualified_name(table.schema(), table.name())),
                   "compare with: SELECT schemaname, tablename FROM pg_tables"};
    }
    oids.push_back(rows[0][0].as<std::uint32_t>());
  }
  return oids;
}

std::set<CatalogObject> objects(const pqxx::result& rows) {
  std::set<CatalogObject> found;
  for (const auto row : rows) found.emplace(row[0].as<std::uint32_t>(), row[1].as<std::uint32_t>());
  return found;
}

// What `query` finds of the tables; `more` is asked in the same transaction.
Result<std::set<CatalogObject>> find_objects(MasterSession& master,
                                             const std::vector<pb::TableName>& tables,
                                             const std::string& snapshot, const char* query,
                                             Unknown unknown,
                                             const std::function<void(pqxx::work&)>& more = {}) {
  Result<void> outcome;
  std::set<CatalogObject> found;
  RETURN_IF_ERROR(master.transact(kAsking, [&](pqxx::work& tx) {
    enter(tx, snapshot);
    const auto oids = find_tables(tx, tables, unknown);
    if (!oids.ok()) {
      outcome = oids.error();
      return;
    }
    found = objects(tx.exec_params(query, array_of(*oids)));
    if (more) more(tx);
  }));
  RETURN_IF_ERROR(outcome);
  return found;
}

}  // namespace

Result<SchemaObjects> needed_objects(MasterSession& master,
                                     const std::vector<pb::TableName>& tables,
                                     const std::string& snapshot) {
  SchemaObjects objects;
  std::vector<std::pair<std::uint32_t, std::string>> relations;
  ASSIGN_OR_RETURN(
      objects.needed,
      find_objects(master, tables, snapshot, kClosure, Unknown::kRefuse, [&](pqxx::work& tx) {
        for (const auto row : tx.exec(kRelationsQuery))
          relations.emplace_back(row[0].as<std::uint32_t>(), row[1].as<std::string>());
      }));
  constexpr std::uint32_t kRelationCatalog = 1259;
  for (auto& [oid, pattern] : relations) {
    if (!objects.needed.contains({kRelationCatalog, oid}))
      objects.unneeded_tables.push_back(std::move(pattern));
  }
  return objects;
}

Result<std::set<CatalogObject>> objects_of(MasterSession& master,
                                           const std::vector<pb::TableName>& tables,
                                           const std::string& snapshot) {
  return find_objects(master, tables, snapshot, kBelongings, Unknown::kPassOver);
}

}  // namespace bitacora::wal
