#include "apply/empty_table.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "apply/replication_origin.h"
#include "apply/standby_command.h"

namespace bitacora::apply {
namespace {

std::string doing(const std::string& target) { return fmt::format("cannot empty {}", target); }

Result<bool> is_partitioned(StandbySession& standby, const std::string& target) {
  ASSIGN_OR_RETURN(
      const auto rows,
      standby.query(doing(target),
                    "SELECT relkind = 'p' FROM pg_catalog.pg_class WHERE oid = $1::regclass",
                    {target}));
  return rows[0][0] == "t";
}

std::string own_rows(const std::string& target, bool partitioned) {
  return (partitioned ? "" : "ONLY ") + target;
}

// False, and nothing was done: referenced by a foreign key, or no right to.
Result<bool> truncated(StandbySession& standby, const std::string& targets) {
  const auto done = execute(
      standby, doing(targets),
      fmt::format("{}; SAVEPOINT whole; TRUNCATE {}; RELEASE whole", first_change_sql(), targets));
  if (done.ok()) return true;
  if (done.sqlstate != "0A000" && done.sqlstate != "42501") return *done.error;
  const auto undone = execute(standby, doing(targets), "ROLLBACK TO whole; RELEASE whole");
  if (!undone.ok()) return *undone.error;
  return false;
}

Result<bool> is_empty(StandbySession& standby, const std::string& rows) {
  ASSIGN_OR_RETURN(const auto found,
                   standby.query(doing(rows), fmt::format("SELECT FROM {} LIMIT 1", rows)));
  return found.empty();
}

// False: TRUNCATE was refused, and DELETE did it.
Result<bool> truncate_or_delete(StandbySession& standby, const std::string& rows) {
  ASSIGN_OR_RETURN(const bool done, truncated(standby, rows));
  if (!done) RETURN_IF_ERROR(execute(standby, doing(rows), "DELETE FROM " + rows).result());
  return done;
}

Result<void> delete_rows(StandbySession& standby, const std::string& rows,
                         const std::string& condition) {
  return execute(standby, doing(rows), fmt::format("DELETE FROM {} WHERE {}", rows, condition))
      .result();
}

}  // namespace

Result<Emptied> empty_for_copy(StandbySession& standby, const TargetRows& target, bool small) {
  ASSIGN_OR_RETURN(const bool partitioned, is_partitioned(standby, target.table));
  const auto rows = own_rows(target.table, partitioned);
  if (!target.condition.empty()) {
    RETURN_IF_ERROR(delete_rows(standby, rows, target.condition));
    return Emptied::kDone;
  }
  if (small) {
    ASSIGN_OR_RETURN(const bool nothing, is_empty(standby, rows));
    if (nothing) return Emptied::kDone;
  }
  ASSIGN_OR_RETURN(const bool fresh, truncate_or_delete(standby, rows));
  return fresh && !partitioned ? Emptied::kForFreeze : Emptied::kDone;
}

Result<void> empty_table(StandbySession& standby, const TargetRows& target) {
  ASSIGN_OR_RETURN(const bool partitioned, is_partitioned(standby, target.table));
  const auto rows = own_rows(target.table, partitioned);
  if (!target.condition.empty()) return delete_rows(standby, rows, target.condition);
  const auto emptied = truncate_or_delete(standby, rows);
  return emptied.ok() ? Result<void>{} : emptied.error();
}

Result<void> empty_tables(StandbySession& standby, const std::vector<TargetRows>& targets) {
  std::vector<std::string> whole;
  for (const auto& target : targets) {
    if (!target.condition.empty()) continue;
    ASSIGN_OR_RETURN(const bool partitioned, is_partitioned(standby, target.table));
    whole.push_back(own_rows(target.table, partitioned));
  }
  bool done = whole.empty();
  if (!done) {
    ASSIGN_OR_RETURN(done, truncated(standby, fmt::format("{}", fmt::join(whole, ", "))));
  }
  for (const auto& target : targets) {
    if (!done || !target.condition.empty()) RETURN_IF_ERROR(empty_table(standby, target));
  }
  return {};
}

}  // namespace bitacora::apply
