// What the master's catalogue says of publications, and of what could be published.
#pragma once

#include <optional>
#include <pqxx/pqxx>
#include <set>
#include <string>

#include "wal/publication_plan.h"

namespace bitacora::wal {

struct MasterCatalogue {
  int server_version = 0;  // as server_version_num
  bool in_recovery = false;
  std::set<std::string> schemas;  // of users
  // Tables that can be published by themselves; of a partition tree its root when rows are
  // published under the root's name, else its leaves.
  std::map<QualifiedTable, ListedTable> tables;

  // Column lists, row filters and whole schemas.
  bool has_parts() const { return server_version >= 150000; }
};

MasterCatalogue read_catalogue(pqxx::transaction_base& tx, bool via_root);

// With the filters as PostgreSQL spells them, for which the search path must be empty.
std::optional<Publication> find_publication(pqxx::transaction_base& tx, const std::string& name);

// The leaves of a partitioned table.
std::set<QualifiedTable> leaves_of(pqxx::transaction_base& tx, const QualifiedTable& root);

}  // namespace bitacora::wal
