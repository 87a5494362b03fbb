// Emptying a table of the standby, inside of the caller's transaction.
#pragma once

#include <string>
#include <vector>

#include "apply/standby_session.h"
#include "base/error.h"

namespace bitacora::apply {

// What is emptied: both parts are SQL.
struct TargetRows {
  std::string table;
  std::string condition = {};  // empty: all of its rows

  friend bool operator==(const TargetRows&, const TargetRows&) = default;
};

enum class Emptied {
  kDone,
  kForFreeze  // COPY FREEZE is allowed from here to the transaction's end
};

// TRUNCATE gives a table new files and makes its COMMIT wait for the disk: `small`, it stays as it
// is when it is empty, which costs less than freezing saves. Tables that inherit from it keep their
// rows: they are tables of their own. Under a condition rows are deleted.
Result<Emptied> empty_for_copy(StandbySession& standby, const TargetRows& target, bool small);

// By TRUNCATE, or else by DELETE.
Result<void> empty_table(StandbySession& standby, const TargetRows& target);
// The same together, since foreign keys may lead from one to the other.
Result<void> empty_tables(StandbySession& standby, const std::vector<TargetRows>& targets);

}  // namespace bitacora::apply
