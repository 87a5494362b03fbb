#include "wal/published_tables.h"

#include <array>
#include <cstdlib>
#include <functional>

#include "proto/relation.h"

namespace bitacora::wal {
namespace {

// A receiver's own tables, in the schema bitacora, are not shipped: see is_own(). Column lists
// exist from 15 on; generated columns are not published; an index's INCLUDE columns are no key.
constexpr const char* kColumnsQuery = R"(
SELECT c.oid, n.nspname, c.relname, c.relreplident, a.attname, a.atttypid, a.atttypmod,
       c.relreplident = 'f' OR coalesce(a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]), false)
FROM pg_publication_tables p
JOIN pg_namespace n ON n.nspname = p.schemaname
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = p.tablename
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
     AND (to_jsonb(p) -> 'attnames' IS NULL OR to_jsonb(p) -> 'attnames' ? a.attname::text)
LEFT JOIN pg_index i ON i.indrelid = c.oid
     AND (c.relreplident = 'd' AND i.indisprimary AND i.indimmediate OR c.relreplident = 'i' AND i.indisreplident)
WHERE p.pubname = $1 AND p.schemaname <> 'bitacora'
ORDER BY 2, 3, a.attnum)";

// As in pgoutput, a domain is described by the name of its base type, and every type is whose OID
// is not fixed for all versions (FirstGenbkiObjectId; information_schema's domains are among them).
constexpr const char* kTypesQuery = R"(
WITH RECURSIVE used AS (
  SELECT DISTINCT a.atttypid AS oid FROM pg_publication_tables p
  JOIN pg_namespace n ON n.nspname = p.schemaname
  JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = p.tablename
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  WHERE p.pubname = $1 AND p.schemaname <> 'bitacora' AND a.atttypid >= 10000
), resolved AS (
  SELECT oid, oid AS base FROM used
  UNION ALL
  SELECT r.oid, t.typbasetype FROM resolved r JOIN pg_type t ON t.oid = r.base WHERE t.typtype = 'd'
)
SELECT r.oid, n.nspname, t.typname FROM resolved r
JOIN pg_type t ON t.oid = r.base AND t.typtype <> 'd' JOIN pg_namespace n ON n.oid = t.typnamespace)";

// From the columns' types inwards; a type without a send function matters only inside another one.
constexpr const char* kBinaryQuery = R"(
WITH RECURSIVE parts (oid, inside) AS (
  SELECT DISTINCT a.atttypid, false FROM pg_publication_tables p
  JOIN pg_namespace n ON n.nspname = p.schemaname
  JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = p.tablename
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  WHERE p.pubname = $1 AND p.schemaname <> 'bitacora'
  UNION
  SELECT part.oid, part.inside FROM parts JOIN pg_type t ON t.oid = parts.oid CROSS JOIN LATERAL (
    SELECT t.typelem, true WHERE t.typcategory = 'A' AND t.typelem <> 0
    UNION ALL SELECT t.typbasetype, parts.inside WHERE t.typtype = 'd'
    UNION ALL SELECT a.atttypid, true FROM pg_attribute a
              WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL SELECT r.rngsubtype, true FROM pg_range r WHERE r.rngtypid = t.oid
    UNION ALL SELECT r.rngtypid, true FROM pg_range r WHERE r.rngmultitypid = t.oid
  ) part (oid, inside)
)
SELECT NOT EXISTS (SELECT FROM parts JOIN pg_type t USING (oid) WHERE inside AND t.typsend = 0))";

using Fields = std::array<const char*, 8>;  // of a row of kColumnsQuery; NULL: nullptr

Fields fields_of(const std::function<const char*(int column)>& value) {
  Fields fields{};
  for (std::size_t i = 0; i < fields.size(); ++i) fields[i] = value(static_cast<int>(i));
  return fields;
}

void add_column(std::vector<pb::Relation>& relations, const Fields& row) {
  const auto oid = static_cast<std::uint32_t>(std::strtoul(row[0], nullptr, 10));
  if (relations.empty() || relations.back().oid() != oid) {
    pb::Relation& relation = relations.emplace_back();
    relation.set_oid(oid);
    relation.set_schema(row[1]);
    relation.set_name(row[2]);
    relation.set_replica_identity(
        proto::replica_identity(*row[3]).value_or(pb::REPLICA_IDENTITY_DEFAULT));
  }
  if (row[4] == nullptr) return;  // a table without columns
  pb::Column* column = relations.back().add_columns();
  column->set_name(row[4]);
  column->set_type_oid(static_cast<std::uint32_t>(std::strtoul(row[5], nullptr, 10)));
  column->set_type_modifier(std::atoi(row[6]));
  column->set_key(*row[7] == 't');
}

}  // namespace

Result<PublishedTables> published_tables(MasterSession& master, const std::string& publication) {
  PublishedTables tables;
  RETURN_IF_ERROR(master.transact("cannot list the published tables", [&](pqxx::work& tx) {
    for (const auto row : tx.exec_params(kColumnsQuery, publication)) {
      const auto value = [&](int column) {
        return row[column].is_null() ? nullptr : row[column].c_str();
      };
      add_column(tables.relations, fields_of(value));
    }
    for (const auto row : tx.exec_params(kTypesQuery, publication)) {
      pb::Type& type = tables.types.emplace_back();
      type.set_oid(row[0].as<std::uint32_t>());
      type.set_schema(row[1].as<std::string>());
      type.set_name(row[2].as<std::string>());
    }
  }));
  return tables;
}

Result<std::vector<pb::Relation>> published_relations(PatientQuery& query,
                                                      const std::string& publication) {
  ASSIGN_OR_RETURN(const auto rows,
                   query.rows(kColumnsQuery, {publication}, "cannot list the published tables"));
  std::vector<pb::Relation> relations;
  for (int i = 0; i < PQntuples(rows.get()); ++i) {
    const auto value = [&](int column) { return field(rows.get(), i, column); };
    add_column(relations, fields_of(value));
  }
  return relations;
}

Result<bool> binary_can_be_sent(MasterSession& master, const std::string& publication) {
  bool can = false;
  RETURN_IF_ERROR(master.transact("cannot look up the published types", [&](pqxx::work& tx) {
    can = tx.exec_params(kBinaryQuery, publication)[0][0].as<bool>();
  }));
  return can;
}

}  // namespace bitacora::wal
