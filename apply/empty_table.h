// Emptying a table of the standby, inside of the caller's transaction. `target` is its name as SQL.
#pragma once

#include <string>
#include <vector>

#include "apply/standby_session.h"
#include "base/error.h"

namespace bitacora::apply {

enum class Emptied {
  kDone,
  kForFreeze  // COPY FREEZE is allowed from here to the transaction's end
};

// TRUNCATE gives a table new files and makes its COMMIT wait for the disk: `small`, it stays as it
// is when it is empty, which costs less than freezing saves. Tables that inherit from it keep their
// rows: they are tables of their own.
Result<Emptied> empty_for_copy(StandbySession& standby, const std::string& target, bool small);

// By TRUNCATE, or else by DELETE.
Result<void> empty_table(StandbySession& standby, const std::string& target);
// The same together, since foreign keys may lead from one to the other.
Result<void> empty_tables(StandbySession& standby, const std::vector<std::string>& targets);

}  // namespace bitacora::apply
