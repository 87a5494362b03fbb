// From a publication as it is to one as it is wanted: what changes, the statements for it, and
// whose rows the receivers then lack. Pure.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace bitacora::wal {

using QualifiedTable = std::pair<std::string, std::string>;  // schema, table

// A table of a publication's list. Columns and filter are spelled by PostgreSQL, so that two that
// mean the same are equal.
struct ListedTable {
  std::string columns = {};  // SQL, "id, total"; empty: all, those to come too
  std::string where = {};    // SQL; empty: every row
  bool partitioned = false;
  bool has_children = false;  // by inheritance: a statement without ONLY would name them too

  bool ships_as(const ListedTable& other) const {
    return columns == other.columns && where == other.where;
  }
};

struct Publication {
  bool all_tables = false;  // those to come too
  bool via_root = false;
  std::set<std::string> operations = {};              // of insert, update, delete, truncate
  std::set<std::string> schemas = {};                 // whole ones, with the tables to come
  std::map<QualifiedTable, ListedTable> tables = {};  // listed one by one
  // What it ships today by all of that.
  std::map<QualifiedTable, ListedTable> published = {};
};

const std::vector<std::string>& all_operations();

struct PublicationPlan {
  bool creates = false;
  std::vector<std::string> lines;       // + table a.b, - table a.c, ~ table a.d: ...
  std::vector<std::string> lock;        // nothing, or the LOCK TABLE that comes first
  std::vector<std::string> statements;  // in one transaction
  std::vector<QualifiedTable> locked;
  // As people read them:
  std::vector<std::string> added;
  std::vector<std::string> dropped;
  std::vector<std::string> changed;
  std::vector<std::pair<std::string, std::string>> to_resync;  // table, why

  // Found beside it, nothing to be done about by a statement:
  std::vector<std::string> unmatched;     // patterns and schemas, as they were written
  std::vector<std::string> not_compared;  // tables whose filter a standby cannot compare

  bool changes_nothing() const { return statements.empty(); }
};

PublicationPlan plan_changes(const std::string& name, const std::optional<Publication>& as_is,
                             const Publication& wanted);

// All statements as one text, in a transaction when there are several.
std::string as_transaction(const PublicationPlan& plan);

// For SQL: "ONLY a.b", where the table's children are not meant.
std::string sql_table(const QualifiedTable& name, const ListedTable& table);

}  // namespace bitacora::wal
