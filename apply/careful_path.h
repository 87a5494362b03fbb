// The careful path: as the exact path, for tables that have conflicts and a policy for them. Rows
// are sent in runs, each under a savepoint; the row that stops a run goes to the ConflictResolver.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>

#include "apply/conflict_policy.h"
#include "apply/conflict_resolver.h"
#include "apply/exact_path.h"
#include "apply/guarded_exchange.h"
#include "base/error.h"
#include "base/lsn.h"

namespace bitacora::apply {

// How long a table is written with care: every transaction whose commit record begins no later than
// `through`, and everything before `until`.
struct CarefulUntil {
  MasterLsn through;
  std::chrono::steady_clock::time_point until;
};

// After a conflict its table is written with care for so long: more of them are likely, and each
// would cost a session.
inline constexpr std::chrono::minutes kCarefulTime{1};

struct CarefulOptions {
  std::string subscription;
  std::string conninfo;  // for the error path
  ConflictPolicies policies;
  std::map<std::string, CarefulUntil> tables;  // schema.table
};

// One thread owns it. Rows wait here until settle(), at most a run of them.
class CarefulPath {
 public:
  CarefulPath(Exchange& exchange, ExactPath& exact, CarefulOptions options);

  Result<void> start();

  // The rows of this transaction for this table are to go through here.
  bool covers(const MappedTable& table, MasterLsn commit_lsn) const;
  // The session failed at this table for a reason that this path may know a way out of.
  bool may_help(const MappedTable& table, MasterLsn commit_lsn) const;

  Result<void> write(HeldRow row);
  // Everything that waits is on the standby, in its transaction.
  Result<void> settle();
  // The transaction is committed. How many conflicts it had.
  std::uint64_t on_commit();

  // Answers of kGuarded and kQuestion.
  void on_reply(const Expected& expected, const PGresult* reply) {
    guarded_.on_reply(expected, reply);
  }

 private:
  struct Stopped {
    std::size_t at;  // in the run
    RowRefusal refusal;
  };
  // The first so many rows; empty: all of them are on the standby. Else none is.
  Result<std::optional<Stopped>> attempt(std::size_t rows);
  Result<void> settle_run();
  Result<void> resolve_first(RowRefusal refusal);
  void drop(std::size_t rows);

  const CarefulOptions options_;
  ExactPath& exact_;
  GuardedExchange guarded_;
  ConflictResolver resolver_;
  std::map<std::string, CarefulUntil> tables_;
  std::deque<HeldRow> held_;
  std::size_t run_;  // rows; smaller while conflicts are many
  std::uint64_t counted_ = 0;
};

}  // namespace bitacora::apply
