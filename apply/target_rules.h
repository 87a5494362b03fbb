// How the master's tables are called and shaped on the standby, where that is not the same: what
// the receiver's configuration file says in [schemas] and [table."schema.table"]. Pure.
#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "proto/replication.pb.h"

namespace bitacora::apply {

struct TargetName {
  std::string schema;
  std::string table;

  friend auto operator<=>(const TargetName&, const TargetName&) = default;
};

struct TableRule {
  TargetName source;                                  // on the master
  std::optional<TargetName> to = {};                  // empty: as the schema's rule has it
  std::map<std::string, std::string> columns = {};    // the master's name, the standby's
  std::set<std::string> left_out = {};                // the master's names
  std::map<std::string, std::string> constants = {};  // columns that only the standby has, and
                                                      // their values, as text
  bool shared = false;  // the target has rows of other tables, or of other masters, too
};

// A relation of the master as the standby's table has it.
struct TargetRelation {
  pb::Relation relation;  // by the standby's names; its last columns are the constants, whose types
                          // only the standby knows
  std::vector<std::size_t> sources;    // the others': where the master's relation has them
  std::vector<std::string> constants;  // their values, as text
  bool mingled = false;  // the target has rows of others, and no constant tells whose a row is

  // Rows have to be rewritten, not only tables and columns called by other names.
  bool reshaped(const pb::Relation& source) const;
};

class TargetRules {
 public:
  void rename_schema(const std::string& from, const std::string& to) { schemas_[from] = to; }
  // One per table of the master; the last one counts.
  void add(TableRule rule);

  TargetName target(const std::string& schema, const std::string& table) const;
  bool renames(const std::string& schema, const std::string& table) const;
  std::string schema(const std::string& of_master) const;
  // A column of the table, by the standby's name; empty: it is left out.
  std::string column(const std::string& schema, const std::string& table,
                     const std::string& of_master) const;

  // kConfiguration: two columns would have one name, or a column of the replica identity is left
  // out.
  Result<TargetRelation> shape(const pb::Relation& source) const;

  // A condition on the target's rows, as SQL, that holds for this table's only; empty: for all of
  // them.
  std::string own_rows(const std::string& schema, const std::string& table) const;
  // Rows of others are in its target,
  bool shares(const std::string& schema, const std::string& table) const;
  // and no constant tells whose a row is.
  bool mingles(const std::string& schema, const std::string& table) const;
  // The tables, by the master's names, that do.
  std::vector<TargetName> mingled() const;
  // Rows of both may be in one table.
  bool may_share(const TargetName& a, const TargetName& b) const;

  // Patterns, as --tables has them, of all tables that are not called as on the master.
  std::vector<std::string> renamed_patterns() const;
  // Rules and parts of them that no relation is concerned by, as the file spells them.
  std::vector<std::string> unused(const std::vector<pb::Relation>& relations) const;

 private:
  const TableRule* find(const std::string& schema, const std::string& table) const;
  TargetName target(const TableRule& rule) const;
  bool mingles(const TableRule& rule) const;

  std::map<std::string, std::string> schemas_;
  std::map<TargetName, TableRule> tables_;  // by the master's name
};

}  // namespace bitacora::apply
