#include "apply/standby_catalog.h"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>

#include "apply/text_array.h"
#include "base/sqlstate.h"
#include "proto/relation.h"

namespace bitacora::apply {
namespace {

// None of these may wait for a table, as pg_partition_tree() does for partitions: the applying
// session, which waits for the answer, may have truncated it.
constexpr const char* kTableQuery = R"(
WITH RECURSIVE target AS (
  SELECT c.oid, c.relkind FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p')
), part (oid, relkind) AS (
  SELECT oid, relkind FROM target
  UNION ALL
  SELECT c.oid, c.relkind FROM part JOIN pg_inherits i ON i.inhparent = part.oid AND part.relkind = 'p'
  JOIN pg_class c ON c.oid = i.inhrelid
)
SELECT c.oid, c.relkind = 'p', row_security_active(c.oid),
       has_table_privilege(c.oid, 'INSERT') AND has_table_privilege(c.oid, 'UPDATE')
       AND has_table_privilege(c.oid, 'DELETE'),
       EXISTS (SELECT FROM part
               WHERE EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = part.oid
                             AND NOT t.tgisinternal AND t.tgenabled IN ('A', 'R'))
                  OR EXISTS (SELECT FROM pg_rewrite r WHERE r.ev_class = part.oid
                             AND r.ev_type <> '1' AND r.ev_enabled IN ('A', 'R'))),
       EXISTS (SELECT FROM part
               JOIN pg_trigger t ON t.tgrelid = part.oid AND t.tgisinternal AND t.tgenabled IN ('A', 'R'))
FROM target c)";

// The equality of a type is that of its default btree or hash operator class. Enums, text-like
// types and ranges share one; arrays, composites and the rest may have no equality underneath and
// are compared as text. So are domains over an enum: the enums' equality takes no domain. Of the
// types whose equality goes by value, these have one binary form per value (1.0 and 1.00 are
// numeric).
constexpr const char* kColumnsQuery = R"(
WITH RECURSIVE base AS (
  SELECT a.attnum, a.atttypid AS oid FROM pg_attribute a
  WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped
  UNION ALL
  SELECT b.attnum, t.typbasetype FROM base b JOIN pg_type t ON t.oid = b.oid WHERE t.typtype = 'd'
)
SELECT a.attname, format_type(a.atttypid, -1), t.oid, n.nspname, t.typname, format_type(t.oid, -1),
       CASE WHEN t.typtype = 'e' AND a.atttypid <> t.oid THEN NULL
            WHEN t.oid IN ('varchar'::regtype, 'bpchar'::regtype) OR t.typtype IN ('e', 'r', 'm')
            THEN 'OPERATOR(pg_catalog.=)'
            ELSE (SELECT format('OPERATOR(%I.%s)', opn.nspname, o.oprname)
                  FROM pg_opclass k JOIN pg_am m ON m.oid = k.opcmethod
                  JOIN pg_amop s ON s.amopfamily = k.opcfamily AND s.amoplefttype = k.opcintype
                       AND s.amoprighttype = k.opcintype
                       AND s.amopstrategy = CASE m.amname WHEN 'btree' THEN 3 ELSE 1 END
                  JOIN pg_operator o ON o.oid = s.amopopr JOIN pg_namespace opn ON opn.oid = o.oprnamespace
                  WHERE k.opcintype = t.oid AND k.opcdefault AND m.amname IN ('btree', 'hash')
                  ORDER BY m.amname LIMIT 1) END,
       a.attgenerated <> '', a.attidentity = 'a',
       a.attnotnull AND NOT a.atthasdef AND a.attidentity = '', t.typreceive <> 0,
       (t.typtype = 'e' OR t.oid IN (
          'bool'::regtype, 'bytea'::regtype, '"char"'::regtype, 'name'::regtype, 'int2'::regtype,
          'int4'::regtype, 'int8'::regtype, 'oid'::regtype, 'text'::regtype, 'varchar'::regtype,
          'date'::regtype, 'time'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype,
          'uuid'::regtype, 'macaddr'::regtype, 'macaddr8'::regtype))
       AND NOT EXISTS (SELECT FROM pg_collation l
                       WHERE l.oid = a.attcollation AND NOT l.collisdeterministic)
FROM base b JOIN pg_type t ON t.oid = b.oid AND t.typtype <> 'd'
JOIN pg_attribute a ON a.attrelid = $1::oid AND a.attnum = b.attnum
JOIN pg_namespace n ON n.oid = t.typnamespace
ORDER BY a.attnum)";

constexpr const char* kKeyQuery = R"(
SELECT a.attname FROM (
  SELECT i.indrelid, i.indkey, i.indnkeyatts FROM pg_index i
  WHERE i.indrelid = $1::oid AND i.indisunique AND i.indimmediate AND i.indisvalid
    AND i.indpred IS NULL AND i.indexprs IS NULL
    AND NOT EXISTS (SELECT FROM generate_series(0, i.indnkeyatts - 1) p JOIN pg_attribute a
                    ON a.attrelid = i.indrelid AND a.attnum = i.indkey[p] WHERE NOT a.attnotnull)
  ORDER BY i.indisprimary DESC, i.indexrelid LIMIT 1) k
CROSS JOIN generate_series(0, k.indnkeyatts - 1) p
JOIN pg_attribute a ON a.attrelid = k.indrelid AND a.attnum = k.indkey[p] ORDER BY p)";

constexpr const char* kLeadingQuery = R"(
SELECT DISTINCT a.attname FROM pg_index i
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
WHERE i.indrelid = $1::oid AND i.indisvalid AND i.indpred IS NULL ORDER BY a.attname)";

constexpr const char* kUniqueQuery = R"(
WITH RECURSIVE part (oid, relkind) AS (
  SELECT oid, relkind FROM pg_class WHERE oid = $1::oid
  UNION ALL
  SELECT c.oid, c.relkind FROM part JOIN pg_inherits i ON i.inhparent = part.oid AND part.relkind = 'p'
  JOIN pg_class c ON c.oid = i.inhrelid
)
SELECT i.indexrelid, a.attname,
       i.indisexclusion OR EXISTS (SELECT FROM unnest(i.indcollation) used (oid)
                                   JOIN pg_collation l ON l.oid = used.oid
                                   WHERE NOT l.collisdeterministic)
FROM part
JOIN pg_index i ON i.indrelid = part.oid AND (i.indisunique OR i.indisexclusion)
CROSS JOIN generate_series(0, i.indnkeyatts - 1) p
LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[p] AND a.attnum > 0
ORDER BY i.indexrelid, p)";

constexpr const char* kEmptiedRootsQuery = R"(
WITH RECURSIVE parts AS (
  SELECT i.inhparent, i.inhrelid FROM pg_inherits i
  WHERE EXISTS (SELECT FROM pg_class c WHERE c.oid = i.inhparent AND c.relkind = 'p')
), emptied AS (
  SELECT name::regclass::oid AS oid FROM unnest($1::text[]) name
  UNION SELECT p.inhrelid FROM parts p JOIN emptied e ON e.oid = p.inhparent
), roots AS (
  SELECT p.inhparent AS oid FROM parts p JOIN emptied e ON e.oid = p.inhrelid
  UNION SELECT p.inhparent FROM parts p JOIN roots r ON r.oid = p.inhrelid
), below AS (
  SELECT oid AS root, oid FROM roots
  UNION SELECT b.root, p.inhrelid FROM below b JOIN parts p ON p.inhparent = b.oid
)
SELECT b.root::regclass FROM below b JOIN pg_class c ON c.oid = b.oid
WHERE EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = b.root AND k.contype = 'f')
  AND has_table_privilege(b.root, 'TRUNCATE')
GROUP BY b.root
HAVING bool_and(c.relkind = 'p' OR c.oid IN (SELECT oid FROM emptied)) ORDER BY 1)";

constexpr std::array<std::pair<const char*, const char*>, 6> kQueries{
    {{"table", kTableQuery},
     {"columns", kColumnsQuery},
     {"key", kKeyQuery},
     {"leading", kLeadingQuery},
     {"unique", kUniqueQuery},
     {"emptied_roots", kEmptiedRootsQuery}}};

StandbyColumn read_column(const pqxx::row& row) {
  StandbyColumn column;
  column.name = row[0].as<std::string>();
  column.type = row[1].as<std::string>();
  column.base_oid = row[2].as<std::uint32_t>();
  column.base_schema = row[3].as<std::string>();
  column.base_name = row[4].as<std::string>();
  column.base_type = row[5].as<std::string>();
  column.equality = row[6].as<std::string>("");
  column.generated = row[7].as<bool>();
  column.identity_always = row[8].as<bool>();
  column.required = row[9].as<bool>();
  column.receives = row[10].as<bool>();
  column.equal_bytes = row[11].as<bool>();
  return column;
}

std::vector<StandbyUnique> read_unique(const pqxx::result& rows) {
  std::vector<StandbyUnique> unique;
  std::string index;
  for (const auto row : rows) {
    const auto oid = row[0].as<std::string>();
    if (oid != std::exchange(index, oid)) unique.push_back({{}, row[2].as<bool>()});
    if (!row[1].is_null()) unique.back().columns.push_back(row[1].as<std::string>());
  }
  return unique;
}

// Call inside a catch block.
Error current_exception_as_error(std::string_view doing) {
  try {
    throw;
  } catch (const pqxx::broken_connection& e) {
    return {ErrorCode::kStandby, fmt::format("{}: {}", doing, e.what()), {}, Recovery::kRetry};
  } catch (const pqxx::transaction_rollback& e) {  // class 40: no sql_error in libpqxx
    return {ErrorCode::kStandby, fmt::format("{}: {}", doing, e.what()), {}, Recovery::kRetry};
  } catch (const pqxx::insufficient_privilege& e) {  // libpqxx leaves its SQLSTATE empty
    return {ErrorCode::kStandby, fmt::format("{}: {}", doing, e.what())};
  } catch (const pqxx::sql_error& e) {
    return {ErrorCode::kStandby,
            fmt::format("{}: {}", doing, e.what()),
            {},
            recovery_for_sqlstate(e.sqlstate())};
  } catch (const std::exception& e) {
    return {ErrorCode::kStandby, fmt::format("{}: {}", doing, e.what())};
  }
}

}  // namespace

const StandbyColumn* StandbyTable::find(const std::string& column) const {
  const auto found =
      std::find_if(columns.begin(), columns.end(), [&](const auto& c) { return c.name == column; });
  return found == columns.end() ? nullptr : &*found;
}

pqxx::connection& StandbyCatalog::connection() {
  if (!connection_ || !connection_->is_open()) {
    connection_ = std::make_unique<pqxx::connection>(conninfo_);
    pqxx::nontransaction settings(*connection_);
    settings.exec("SET application_name = 'bitacora receiver catalogue'");
    settings.exec("SET search_path = ''");
    settings.exec("SET client_encoding = 'UTF8'");
    settings.exec("SET jit = off");  // compiling takes longer than any of the queries
    // Each query is about one table, and planned once: not by reading all of a catalogue, which
    // would make many tables cost the square of their number.
    settings.exec("SET plan_cache_mode = force_generic_plan");
    settings.exec("SET enable_hashjoin = off");
    settings.exec("SET enable_mergejoin = off");
    settings.exec("SET enable_seqscan = off");
    for (const auto& [name, sql] : kQueries) connection_->prepare(name, sql);
  }
  return *connection_;
}

Result<std::optional<StandbyTable>> StandbyCatalog::table(const std::string& schema,
                                                          const std::string& name) try {
  pqxx::work tx(connection());
  const auto found = tx.exec_prepared("table", schema, name);
  if (found.empty()) return std::optional<StandbyTable>{};
  StandbyTable table;
  table.schema = schema;
  table.name = name;
  table.partitioned = found[0][1].as<bool>();
  table.row_security = found[0][2].as<bool>();
  table.writable = found[0][3].as<bool>();
  table.fires = found[0][4].as<bool>();
  table.checks_others = found[0][5].as<bool>();
  const auto oid = found[0][0].as<std::string>();
  for (const auto row : tx.exec_prepared("columns", oid)) table.columns.push_back(read_column(row));
  for (const auto row : tx.exec_prepared("key", oid)) table.key.push_back(row[0].as<std::string>());
  for (const auto row : tx.exec_prepared("leading", oid))
    table.leading.push_back(row[0].as<std::string>());
  table.unique = read_unique(tx.exec_prepared("unique", oid));
  return std::optional(std::move(table));
} catch (...) {
  connection_.reset();
  return current_exception_as_error(
      fmt::format("cannot look up {}.{} on the standby", schema, name));
}

Result<std::optional<std::uint32_t>> StandbyCatalog::type(const std::string& schema,
                                                          const std::string& name) try {
  pqxx::work tx(connection());
  const auto found = tx.exec_params(
      "SELECT t.oid FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace"
      " WHERE n.nspname = $1 AND t.typname = $2",
      schema, name);
  if (found.empty()) return std::optional<std::uint32_t>{};
  return std::optional(found[0][0].as<std::uint32_t>());
} catch (...) {
  connection_.reset();
  return current_exception_as_error(
      fmt::format("cannot look up type {}.{} on the standby", schema, name));
}

Result<std::vector<std::string>> StandbyCatalog::emptied_roots(
    const std::vector<std::string>& tables) try {
  TextArray names;
  for (const auto& table : tables) names.add(table);
  pqxx::work tx(connection());
  std::vector<std::string> roots;
  for (const auto row : tx.exec_prepared("emptied_roots", names.text()))
    roots.push_back(row[0].as<std::string>());
  return roots;
} catch (...) {
  connection_.reset();
  return current_exception_as_error("cannot look for the roots of truncated partitions");
}

Result<std::optional<std::string>> StandbyCatalog::binary_value(const StandbyTable& table,
                                                                const StandbyColumn& column,
                                                                const std::string& text) try {
  pqxx::work tx(connection());
  const auto sends = tx.exec_params(
      "SELECT typsend::text FROM pg_type WHERE oid = $1 AND typsend <> 0 AND typreceive <> 0",
      column.base_oid);
  // As the column's own type, whose domain may refuse it.
  const auto value = fmt::format("{}::{}", tx.quote(text), column.type);
  if (sends.empty()) {
    tx.exec("SELECT " + value);
    return std::optional<std::string>{};
  }
  const auto row =
      tx.exec1(fmt::format("SELECT {}({}::{})", sends[0][0].c_str(), value, column.base_type));
  const pqxx::binarystring bytes(row[0]);
  return std::optional(bytes.str());
} catch (...) {
  connection_.reset();
  Error error = current_exception_as_error(
      fmt::format("the constant for {}.{}", proto::qualified_name(table.schema, table.name),
                  proto::quoted_name(column.name)));
  if (!error.heals()) error.hint = "give the constant a value that the column's type takes";
  return error;
}

}  // namespace bitacora::apply
