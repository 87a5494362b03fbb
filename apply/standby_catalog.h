// What the standby's catalogue says of a table and of types. An own connection, so that a running
// pipeline is not disturbed.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <pqxx/pqxx>
#include <string>
#include <vector>

#include "base/error.h"

namespace bitacora::apply {

struct StandbyColumn {
  std::string name;
  std::string type;            // as SQL, without modifier
  std::uint32_t base_oid = 0;  // of the type, or of what the domain is over
  std::string base_schema;
  std::string base_name;
  std::string base_type;  // as SQL, without modifier
  std::string
      equality;  // OPERATOR(schema.=) that its index and ordering use; empty: compare as text
  bool generated = false;
  bool identity_always = false;
  bool required = false;     // NOT NULL and nothing fills it in
  bool receives = true;      // its type takes binary values
  bool equal_bytes = false;  // values are equal if and only if their binary forms are
};

// A unique index or an exclusion constraint, of the table or of a partition.
struct StandbyUnique {
  std::vector<std::string> columns;  // without expressions
  bool loose = false;  // keeps rows apart also by other means than their values' own equality
};

struct StandbyTable {
  std::string schema;
  std::string name;
  bool partitioned = false;
  bool row_security = false;   // would filter what we write
  bool writable = false;       // INSERT, UPDATE and DELETE are granted
  bool fires = false;          // has triggers or rules that fire also in the replica role
  bool checks_others = false;  // has foreign keys that are checked also in the replica role
  std::vector<StandbyColumn> columns;
  std::vector<std::string>
      key;  // of an immediate unique index over NOT NULL columns, the primary key's first
  std::vector<std::string> leading;  // first columns of its indexes
  std::vector<StandbyUnique> unique;

  const StandbyColumn* find(const std::string& column) const;
};

class StandbyCatalog {
 public:
  explicit StandbyCatalog(std::string conninfo) : conninfo_(std::move(conninfo)) {}

  // Empty when there is no ordinary or partitioned table of this name. One thread at a time.
  Result<std::optional<StandbyTable>> table(const std::string& schema, const std::string& name);

  // The OID of a type by name; empty when there is none.
  Result<std::optional<std::uint32_t>> type(const std::string& schema, const std::string& name);

  // Partitioned tables with a foreign key of their own that are empty when `tables` are: TRUNCATE
  // of what they refer to wants them named. Both as SQL spells them.
  Result<std::vector<std::string>> emptied_roots(const std::vector<std::string>& tables);

  // A value of a column, read from text, in the form that its type sends; empty for a type without
  // one. kStandby: the column's type does not take it.
  Result<std::optional<std::string>> binary_value(const StandbyTable& table,
                                                  const StandbyColumn& column,
                                                  const std::string& text);

 private:
  pqxx::connection& connection();

  std::string conninfo_;
  std::unique_ptr<pqxx::connection> connection_;
};

}  // namespace bitacora::apply
