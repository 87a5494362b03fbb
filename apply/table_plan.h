// How a relation of the master fits a table of the standby. Pure: both descriptions in, the plan
// out.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "apply/standby_catalog.h"
#include "base/error.h"
#include "proto/replication.pb.h"

namespace bitacora::apply {

// One column of the relation and the standby's column of the same name.
struct ColumnPlan {
  std::string name;              // quoted
  std::string type;              // the standby column's, as SQL
  std::string equality;          // operator that finds it by index; empty: compare as text
  std::string under_domain;      // the type under the standby column's domain; empty: it is none
  std::string cast;              // a binary value is cast to this type; empty: it already is
  std::uint32_t binary_oid = 0;  // parameter type of a binary value: the master's type
  std::uint32_t text_oid =
      0;             // parameter type of a text value: the standby's, read by its input function
  bool key = false;  // of the master's replica identity
  bool locates = false;   // one of TablePlan::locator
  bool writable = false;  // the standby does not compute it
  bool identity_always = false;
};

// What a change of one row may meet that other transactions do to the table at the same time.
enum class Reach {
  kKey,         // changes of rows with the same bytes in the locator's columns, old or new
  kTable,       // any change of the table: keys with other bytes may be equal, or rows are kept
                // apart by other columns
  kEverything,  // triggers, rules and foreign keys act on other tables
};

struct TablePlan {
  std::string target;  // schema.table, quoted
  bool partitioned = false;
  std::vector<ColumnPlan> columns;   // in the relation's order
  std::vector<std::size_t> locator;  // columns that find a row; empty: the whole row does
  std::vector<std::string>
      carried;  // quoted; columns only the standby has, kept when a row is replaced
  bool loose_identity_always =
      false;                     // an identity column outside the key: an UPDATE cannot set it
  bool fires = false;            // triggers or rules of the standby see every row
  bool set_wise = false;         // many rows at once may be written, from their binary form
  bool locator_indexed = false;  // an index of the standby begins with a column of the locator
  Reach reach = Reach::kEverything;
  std::string own_rows;  // a condition that holds for the relation's rows only; empty: for all
  bool mingled = false;  // other relations' rows are among them, and nothing tells them apart

  // The order of changes across those relations counts then.
  void mingle() {
    mingled = true;
    set_wise = false;
    reach = Reach::kEverything;
  }
};

// A type of the master as the standby knows it.
struct SourceType {
  std::string schema;
  std::string name;
  std::optional<std::uint32_t> standby_oid;  // empty: the standby has no such type
};

// `types` has one entry per column of the relation. Errors, kStandby, each naming table and column
// and the SQL that mends it: a missing column, a missing type, a required column that nothing
// fills, missing rights, row security. The last `constants` columns are the standby's only.
Result<TablePlan> plan_table(const pb::Relation& relation, const std::vector<SourceType>& types,
                             const StandbyTable& table, int constants = 0);

}  // namespace bitacora::apply
