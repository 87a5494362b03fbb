// The relations of one stream session and the standby's tables they go to.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "apply/row_shaper.h"
#include "apply/row_statement.h"
#include "apply/standby_catalog.h"
#include "apply/table_plan.h"
#include "apply/target_registry.h"
#include "apply/target_rules.h"
#include "base/error.h"
#include "base/lsn.h"
#include "base/name_pattern.h"
#include "proto/replication.pb.h"

namespace bitacora::apply {

struct PreparedRow {
  std::string name;  // of the prepared statement
  std::vector<ParameterSource> parameters;
};

// Which of a stream's changes a session applies; names are schema.table, as qualified_name() spells
// them.
struct TableScope {
  TablePatterns tables;                            // --tables
  std::map<std::string, MasterLsn> begins = {};    // their copy has what was committed before
  std::set<std::string> left_out = {};             // are being copied
  std::optional<std::set<std::string>> only = {};  // nothing else
  TargetRules targets = {};
  // Asked before the first change of a table; what it refuses is not applied.
  std::function<Result<void>(const SourceTable&)> claim = {};
};

// A relation as the master described it and, once a change of it arrived, how it is applied.
struct MappedTable {
  pb::Relation source;    // the master's names and columns
  pb::Relation relation;  // once planned: the standby's
  bool wanted = true;     // by --tables
  bool taken = true;      // in the session's scope; others are left out
  MasterLsn begins;       // changes whose commit record begins before are left out
  bool planned = false;
  TablePlan plan;
  std::vector<std::size_t> sources;    // of its first columns, where `source` has them
  std::vector<std::string> constants;  // of the others, as text
  std::optional<RowShaper> shaper;     // what its rows go through
  std::string text_columns;            // per column: t or b, as its last value came
  std::map<RowShape, PreparedRow> prepared;
};

// One thread owns it. Tables it has handed out stay valid as long as it lives, also when described
// anew.
class TableMap {
 public:
  TableMap(StandbyCatalog& catalog, TableScope scope)
      : catalog_(catalog), scope_(std::move(scope)) {}

  void describe(const pb::Type& type) { types_[type.oid()] = type; }
  void describe(const pb::Relation& relation);
  // It was described in the same way before.
  bool knows(const pb::Relation& relation) const;

  // The table for changes of a relation, planned. Errors: a relation that was never described
  // (kMaster), one that does not fit the standby (kStandby, see plan_table) or the rules
  // (kConfiguration).
  Result<MappedTable*> table(std::uint32_t relation_oid);
  // The partitioned tables of the standby that TRUNCATE has to name beside the plans' tables.
  Result<std::vector<std::string>> roots_of(const std::vector<const TablePlan*>& plans);
  // The relation that table() did not find on the standby, where it has the master's name.
  const std::optional<pb::Relation>& missing() const { return missing_; }

 private:
  Result<void> plan(MappedTable& table);
  Error no_table(const MappedTable& table);
  Result<void> check_alone(const MappedTable& table) const;
  Result<void> shape(MappedTable& table, const TargetRelation& shaped, const StandbyTable& target,
                     std::vector<SourceType>& types);
  Result<SourceType> source_type(const pb::Relation& relation, const pb::Column& column);

  StandbyCatalog& catalog_;
  const TableScope scope_;
  std::unordered_map<std::uint32_t, pb::Type> types_;
  std::unordered_map<std::uint32_t, MappedTable*> current_;
  std::optional<pb::Relation> missing_;
  std::vector<std::unique_ptr<MappedTable>> all_;
};

}  // namespace bitacora::apply
