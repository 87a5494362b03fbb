#include "wal/copy_plan.h"

#include <algorithm>
#include <cstdlib>
#include <set>
#include <string_view>
#include <unordered_map>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "proto/relation.h"
#include "wal/patient_query.h"
#include "wal/published_tables.h"

namespace bitacora::wal {
namespace {

constexpr const char* kPlanning = "cannot plan the copy";

// Row filters exist from 15 on.
constexpr const char* kFiltersQuery = R"(
SELECT c.oid, pg_catalog.to_jsonb(p) ->> 'rowfilter' FROM pg_publication_tables p
JOIN pg_namespace n ON n.nspname = p.schemaname
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = p.tablename
WHERE p.pubname = $1 AND pg_catalog.to_jsonb(p) ->> 'rowfilter' IS NOT NULL)";

// A table by itself, since what inherits from it is published by itself; of a partition tree the
// leaves, which its root is read from.
constexpr const char* kPiecesQuery = R"(
WITH RECURSIVE tree (root, oid) AS (
  SELECT t.oid, t.oid FROM pg_catalog.unnest($1::oid[]) AS t (oid)
  UNION ALL
  SELECT t.root, i.inhrelid FROM tree t
  JOIN pg_class c ON c.oid = t.oid AND c.relkind = 'p' JOIN pg_inherits i ON i.inhparent = t.oid
)
SELECT t.root, c.oid, pg_catalog.format('%I.%I', n.nspname, c.relname), c.relkind, c.reltuples::int8,
       pg_catalog.has_table_privilege(c.oid, 'SELECT'), pg_catalog.has_schema_privilege(n.oid, 'USAGE'),
       pg_catalog.quote_ident(n.nspname), pg_catalog.row_security_active(c.oid)
FROM tree t JOIN pg_class c ON c.oid = t.oid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind <> 'p' ORDER BY t.root, 3)";

// Of tables that the role may not read as a whole, those whose published columns it may read.
constexpr const char* kColumnRightsQuery = R"(
SELECT u.oid FROM unnest($1::oid[], $2::text[]) AS u (oid, name)
JOIN pg_attribute a ON a.attrelid = u.oid AND a.attname = u.name
GROUP BY u.oid HAVING pg_catalog.bool_and(pg_catalog.has_column_privilege(u.oid, a.attnum, 'SELECT')))";

// Each size takes a lock for a moment (as the list of published tables does from 16 on).
constexpr const char* kSizesQuery = R"(
SELECT p.oid, pg_catalog.pg_relation_size(p.oid) / pg_catalog.current_setting('block_size')::int8,
       pg_catalog.pg_table_size(p.oid) FROM pg_catalog.unnest($1::oid[]) AS p (oid))";

struct Piece {
  std::uint32_t oid = 0;
  CopyPlanTable* table = nullptr;
  std::string name;  // as SQL
  std::string schema;
  bool foreign = false;
  std::int64_t rows = -1;
  bool readable = false;
  bool schema_usable = false;
  bool row_security = false;
};

std::uint32_t oid_of(const char* text) {
  return static_cast<std::uint32_t>(std::strtoul(text, nullptr, 10));
}

template <class Number>
std::string array_of(const std::vector<Number>& values) {
  return fmt::format("{{{}}}", fmt::join(values, ","));
}

// An element of an array in its text form.
std::string array_element(std::string_view text) {
  std::string element = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') element += '\\';
    element += c;
  }
  return element + '"';
}

Result<std::vector<CopyPlanTable>> choose_tables(PatientQuery& ask, const std::string& publication,
                                                 const std::vector<pb::TableName>& wanted,
                                                 Unpublished unpublished) {
  ASSIGN_OR_RETURN(const auto published, published_relations(ask, publication));
  std::map<std::pair<std::string, std::string>, const pb::Relation*> by_name;
  for (const auto& relation : published)
    by_name.emplace(std::pair(relation.schema(), relation.name()), &relation);
  std::vector<CopyPlanTable> tables;
  for (const auto& name : wanted) {
    const auto found = by_name.find({name.schema(), name.name()});
    if (found == by_name.end() && unpublished == Unpublished::kLeftOut) continue;
    if (found == by_name.end()) {
      return Error{ErrorCode::kConfiguration,
                   fmt::format("publication {} does not have table {}", publication,
                               proto::qualified_name(name.schema(), name.name())),
                   fmt::format("compare with: SELECT * FROM pg_publication_tables WHERE pubname = "
                               "{}",
                               quoted_literal(ask.connection(), publication))};
    }
    *tables.emplace_back().plan.mutable_relation() = *found->second;
  }
  return tables;
}

using TablesByOid = std::unordered_map<std::uint32_t, CopyPlanTable*>;

Result<void> find_filters(PatientQuery& ask, const std::string& publication,
                          const TablesByOid& tables) {
  ASSIGN_OR_RETURN(const auto rows, ask.rows(kFiltersQuery, {publication}, kPlanning));
  for (int i = 0; i < PQntuples(rows.get()); ++i) {
    const auto found = tables.find(oid_of(field(rows.get(), i, 0)));
    if (found == tables.end()) continue;
    found->second->row_filter = field(rows.get(), i, 1);
    found->second->plan.set_filtered(true);
  }
  return {};
}

Piece piece_of(const PGresult* rows, int row, const TablesByOid& tables) {
  const auto is_true = [&](int column) {
    const char* value = field(rows, row, column);
    return value != nullptr && *value == 't';
  };
  Piece piece;
  piece.table = tables.at(oid_of(field(rows, row, 0)));
  piece.oid = oid_of(field(rows, row, 1));
  piece.name = field(rows, row, 2);
  piece.foreign = *field(rows, row, 3) != 'r';
  piece.rows = std::strtoll(field(rows, row, 4), nullptr, 10);
  piece.readable = is_true(5);
  piece.schema_usable = is_true(6);
  piece.schema = field(rows, row, 7);
  piece.row_security = is_true(8);
  return piece;
}

Result<std::vector<Piece>> find_pieces(PatientQuery& ask, const TablesByOid& tables) {
  std::vector<std::uint32_t> oids;
  for (const auto& [oid, table] : tables) oids.push_back(oid);
  ASSIGN_OR_RETURN(const auto rows, ask.rows(kPiecesQuery, {array_of(oids)}, kPlanning));
  std::vector<Piece> pieces;
  for (int i = 0; i < PQntuples(rows.get()); ++i) pieces.push_back(piece_of(rows.get(), i, tables));
  return pieces;
}

Result<void> find_readable_columns(PatientQuery& ask, std::vector<Piece>& pieces) {
  std::vector<std::uint32_t> oids;
  std::vector<std::string> names;
  for (const auto& piece : pieces) {
    if (piece.readable) continue;
    for (const auto& column : piece.table->plan.relation().columns()) {
      oids.push_back(piece.oid);
      names.push_back(array_element(column.name()));
    }
  }
  if (oids.empty()) return {};
  ASSIGN_OR_RETURN(const auto rows,
                   ask.rows(kColumnRightsQuery, {array_of(oids), array_of(names)}, kPlanning));
  std::set<std::uint32_t> readable;
  for (int i = 0; i < PQntuples(rows.get()); ++i) readable.insert(oid_of(field(rows.get(), i, 0)));
  for (auto& piece : pieces) piece.readable = piece.readable || readable.contains(piece.oid);
  return {};
}

// The names of those that are so, once each; empty: none is.
template <class Predicate>
std::string names_of(const std::vector<Piece>& pieces, std::string Piece::*name,
                     const Predicate& chosen) {
  std::set<std::string> names;
  for (const auto& piece : pieces) {
    if (chosen(piece)) names.insert(piece.*name);
  }
  return fmt::format("{}", fmt::join(names, ", "));
}

Result<void> check_rights(PatientQuery& ask, const std::vector<Piece>& pieces) {
  ASSIGN_OR_RETURN(const auto row,
                   ask.rows("SELECT pg_catalog.quote_ident(current_user)", {}, kPlanning));
  const std::string role = PQgetvalue(row.get(), 0, 0);
  const auto unreadable = names_of(pieces, &Piece::name, [](const Piece& piece) {
    return !piece.readable || !piece.schema_usable;
  });
  if (!unreadable.empty()) {
    std::vector<std::string> grants;
    const auto schemas =
        names_of(pieces, &Piece::schema, [](const Piece& piece) { return !piece.schema_usable; });
    const auto tables =
        names_of(pieces, &Piece::name, [](const Piece& piece) { return !piece.readable; });
    if (!schemas.empty())
      grants.push_back(fmt::format("GRANT USAGE ON SCHEMA {} TO {}", schemas, role));
    if (!tables.empty()) grants.push_back(fmt::format("GRANT SELECT ON {} TO {}", tables, role));
    return Error{ErrorCode::kMaster, fmt::format("role {} may not read {}", role, unreadable),
                 fmt::format("run on the master: {}", fmt::join(grants, "; "))};
  }
  const auto hidden =
      names_of(pieces, &Piece::name, [](const Piece& piece) { return piece.row_security; });
  if (hidden.empty()) return {};
  return Error{ErrorCode::kMaster,
               fmt::format("row level security hides rows of {} from role {}", hidden, role),
               fmt::format("run on the master as a superuser: ALTER ROLE {} BYPASSRLS", role)};
}

Result<void> check_kinds(const std::vector<Piece>& pieces) {
  const auto foreign =
      names_of(pieces, &Piece::name, [](const Piece& piece) { return piece.foreign; });
  if (foreign.empty()) return {};
  return Error{
      ErrorCode::kConfiguration,
      fmt::format("{} is a foreign table under a published partitioned table: its rows are "
                  "on another server and cannot be copied",
                  foreign),
      "detach it, or leave the partitioned table out of --tables"};
}

struct Size {
  std::uint64_t pages = 0;
  std::uint64_t bytes = 0;
};

Result<std::unordered_map<std::uint32_t, Size>> measure(PatientQuery& ask,
                                                        const std::vector<Piece>& pieces) {
  std::vector<std::uint32_t> oids;
  for (const auto& piece : pieces) oids.push_back(piece.oid);
  ASSIGN_OR_RETURN(const auto rows, ask.rows(kSizesQuery, {array_of(oids)}, kPlanning));
  std::unordered_map<std::uint32_t, Size> sizes;
  for (int i = 0; i < PQntuples(rows.get()); ++i) {
    const char* pages = field(rows.get(), i, 1);
    const char* bytes = field(rows.get(), i, 2);
    if (pages == nullptr || bytes == nullptr) continue;
    sizes[oid_of(field(rows.get(), i, 0))] = {std::strtoull(pages, nullptr, 10),
                                              std::strtoull(bytes, nullptr, 10)};
  }
  return sizes;
}

// The estimate of a tree is known when that of each of its leaves with pages is.
void add_rows(pb::CopyTablePlan& plan, const Piece& piece, std::uint64_t pages) {
  const bool known = piece.rows >= 0 || pages == 0;
  plan.set_rows(known && plan.rows() >= 0 ? plan.rows() + std::max<std::int64_t>(piece.rows, 0)
                                          : -1);
}

Result<void> add_pieces(const std::vector<Piece>& pieces,
                        const std::unordered_map<std::uint32_t, Size>& sizes) {
  for (const auto& piece : pieces) {
    const auto size = sizes.find(piece.oid);
    if (size == sizes.end()) {
      return Error{ErrorCode::kMaster,
                   fmt::format("{} was dropped while its copy was planned", piece.name),
                   {},
                   Recovery::kRetry};
    }
    auto* added = piece.table->plan.add_pieces();
    added->set_oid(piece.oid);
    added->set_pages(size->second.pages);
    added->set_bytes(size->second.bytes);
    piece.table->pieces.emplace(piece.oid, piece.name);
    add_rows(piece.table->plan, piece, size->second.pages);
  }
  return {};
}

}  // namespace

Result<std::vector<CopyPlanTable>> plan_copy(CopySnapshot& snapshot, const std::string& conninfo,
                                             const std::string& publication,
                                             const std::vector<pb::TableName>& tables,
                                             const OnWaiting& waiting, const std::stop_token& stop,
                                             Unpublished unpublished) {
  PatientQuery ask(snapshot.connection(), conninfo, waiting, stop);
  ASSIGN_OR_RETURN(auto planned, choose_tables(ask, publication, tables, unpublished));
  TablesByOid by_oid;
  for (auto& table : planned) by_oid.emplace(table.plan.relation().oid(), &table);
  RETURN_IF_ERROR(find_filters(ask, publication, by_oid));
  ASSIGN_OR_RETURN(auto pieces, find_pieces(ask, by_oid));
  RETURN_IF_ERROR(check_kinds(pieces));
  RETURN_IF_ERROR(find_readable_columns(ask, pieces));
  RETURN_IF_ERROR(check_rights(ask, pieces));
  ASSIGN_OR_RETURN(const auto sizes, measure(ask, pieces));
  RETURN_IF_ERROR(add_pieces(pieces, sizes));
  return planned;
}

}  // namespace bitacora::wal
