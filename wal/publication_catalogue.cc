#include "wal/publication_catalogue.h"

namespace bitacora::wal {
namespace {

constexpr const char* kTablesQuery = R"(
SELECT n.nspname, c.relname, c.relkind = 'p', c.relhassubclass FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relpersistence = 'p' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
  AND n.nspname <> 'bitacora'
  AND CASE WHEN $1 THEN c.relkind IN ('r', 'p') AND NOT c.relispartition ELSE c.relkind = 'r' END)";

// What is listed. Column lists and row filters exist from 15 on.
constexpr const char* kListQuery = R"(
SELECT n.nspname, c.relname, c.relkind = 'p', c.relhassubclass,
       CASE WHEN r.prattrs IS NOT NULL THEN
         (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' ORDER BY a.attnum)
          FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum = ANY (r.prattrs)) END,
       pg_catalog.pg_get_expr(r.prqual, r.prrelid)
FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
JOIN pg_class c ON c.oid = r.prrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE p.pubname = $1)";
constexpr const char* kListQuery14 = R"(
SELECT n.nspname, c.relname, c.relkind = 'p', c.relhassubclass, NULL, NULL
FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
JOIN pg_class c ON c.oid = r.prrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE p.pubname = $1)";

constexpr const char* kPublishedQuery = R"(
SELECT n.nspname, c.relname, c.relkind = 'p', c.relhassubclass FROM pg_publication_tables p
JOIN pg_namespace n ON n.nspname = p.schemaname
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = p.tablename WHERE p.pubname = $1)";

constexpr const char* kSchemasQuery = R"(
SELECT n.nspname FROM pg_publication_namespace s JOIN pg_publication p ON p.oid = s.pnpubid
JOIN pg_namespace n ON n.oid = s.pnnspid WHERE p.pubname = $1)";

int version_of(pqxx::transaction_base& tx) {
  return tx.exec1("SELECT current_setting('server_version_num')::int")[0].as<int>();
}

// The first four columns of the queries above.
std::map<QualifiedTable, ListedTable> tables_of(const pqxx::result& rows) {
  std::map<QualifiedTable, ListedTable> tables;
  for (const auto row : rows) {
    ListedTable table;
    table.partitioned = row[2].as<bool>();
    table.has_children = row[3].as<bool>();
    if (row.size() > 4) {
      table.columns = row[4].as<std::string>("");
      table.where = row[5].as<std::string>("");
    }
    tables.emplace(QualifiedTable{row[0].as<std::string>(), row[1].as<std::string>()}, table);
  }
  return tables;
}

}  // namespace

MasterCatalogue read_catalogue(pqxx::transaction_base& tx, bool via_root) {
  MasterCatalogue catalogue;
  catalogue.server_version = version_of(tx);
  catalogue.in_recovery = tx.exec1("SELECT pg_is_in_recovery()")[0].as<bool>();
  catalogue.tables = tables_of(tx.exec_params(kTablesQuery, via_root));
  for (const auto row : tx.exec("SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_'"
                                " AND nspname <> 'information_schema'"))
    catalogue.schemas.insert(row[0].as<std::string>());
  return catalogue;
}

std::optional<Publication> find_publication(pqxx::transaction_base& tx, const std::string& name) {
  const auto rows = tx.exec_params(
      "SELECT puballtables, pubviaroot, pubinsert, pubupdate, pubdelete, pubtruncate"
      " FROM pg_publication WHERE pubname = $1",
      name);
  if (rows.empty()) return std::nullopt;
  Publication found;
  found.all_tables = rows[0][0].as<bool>();
  found.via_root = rows[0][1].as<bool>();
  int column = 2;
  for (const auto& operation : all_operations()) {
    if (rows[0][column++].as<bool>()) found.operations.insert(operation);
  }
  const bool has_parts = version_of(tx) >= 150000;
  found.tables = tables_of(tx.exec_params(has_parts ? kListQuery : kListQuery14, name));
  found.published = tables_of(tx.exec_params(kPublishedQuery, name));
  if (!has_parts) return found;
  for (const auto row : tx.exec_params(kSchemasQuery, name))
    found.schemas.insert(row[0].as<std::string>());
  return found;
}

std::set<QualifiedTable> leaves_of(pqxx::transaction_base& tx, const QualifiedTable& root) {
  std::set<QualifiedTable> leaves;
  for (const auto row : tx.exec_params(
           "SELECT n.nspname, c.relname FROM pg_namespace s JOIN pg_class r ON r.relnamespace = "
           "s.oid"
           " CROSS JOIN LATERAL pg_partition_tree(r.oid) t JOIN pg_class c ON c.oid = t.relid"
           " JOIN pg_namespace n ON n.oid = c.relnamespace"
           " WHERE s.nspname = $1 AND r.relname = $2 AND t.isleaf",
           root.first, root.second))
    leaves.emplace(row[0].as<std::string>(), row[1].as<std::string>());
  return leaves;
}

}  // namespace bitacora::wal
