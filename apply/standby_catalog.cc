#include "apply/standby_catalog.h"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>

#include "base/sqlstate.h"

namespace bitacora::apply {
namespace {

constexpr const char* kTableQuery = R"(
SELECT c.oid, c.relkind = 'p', row_security_active(c.oid),
       has_table_privilege(c.oid, 'INSERT') AND has_table_privilege(c.oid, 'UPDATE')
       AND has_table_privilege(c.oid, 'DELETE'),
       EXISTS (SELECT FROM (SELECT c.oid UNION SELECT relid FROM pg_partition_tree(c.oid)) part (oid)
               WHERE EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = part.oid
                             AND NOT t.tgisinternal AND t.tgenabled IN ('A', 'R'))
                  OR EXISTS (SELECT FROM pg_rewrite r WHERE r.ev_class = part.oid
                             AND r.ev_type <> '1' AND r.ev_enabled IN ('A', 'R'))),
       EXISTS (SELECT FROM (SELECT c.oid UNION SELECT relid FROM pg_partition_tree(c.oid)) part (oid)
               JOIN pg_trigger t ON t.tgrelid = part.oid AND t.tgisinternal AND t.tgenabled IN ('A', 'R'))
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p'))";

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
SELECT i.indexrelid, a.attname,
       i.indisexclusion OR EXISTS (SELECT FROM unnest(i.indcollation) used (oid)
                                   JOIN pg_collation l ON l.oid = used.oid
                                   WHERE NOT l.collisdeterministic)
FROM (SELECT $1::oid AS oid UNION SELECT relid FROM pg_partition_tree($1::oid)) part
JOIN pg_index i ON i.indrelid = part.oid AND (i.indisunique OR i.indisexclusion)
CROSS JOIN generate_series(0, i.indnkeyatts - 1) p
LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[p] AND a.attnum > 0
ORDER BY i.indexrelid, p)";

constexpr std::array<std::pair<const char*, const char*>, 5> kQueries{{{"table", kTableQuery},
                                                                       {"columns", kColumnsQuery},
                                                                       {"key", kKeyQuery},
                                                                       {"leading", kLeadingQuery},
                                                                       {"unique", kUniqueQuery}}};

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

}  // namespace bitacora::apply
