// SQL whose failure is told apart by its SQLSTATE, and transactions of such SQL.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "apply/standby_session.h"
#include "base/error.h"

namespace bitacora::apply {

struct CommandOutcome {
  std::optional<Error> error;
  std::string sqlstate;  // of the error; empty: the connection is lost

  bool ok() const { return !error.has_value(); }
  Result<void> result() const { return error ? Result<void>(*error) : Result<void>(); }
};

// One or more statements in one round trip; nothing is known of those before the one that failed.
CommandOutcome execute(StandbySession& standby, std::string_view doing, const std::string& sql);

// Of the open transaction. kInDoubt when the connection was lost before the answer came.
Result<void> commit(StandbySession& standby, std::string_view doing);

// Ends whatever is open, a COPY too. A lost connection has nothing open.
void roll_back(StandbySession& standby);

// Runs `body` in a transaction of its own, committed when it returns no error.
template <class Body>
Result<void> in_transaction(StandbySession& standby, std::string_view doing, Body body) {
  const auto begun = execute(standby, doing, "BEGIN");
  if (!begun.ok()) return *begun.error;
  if (Result<void> done = body(); !done.ok()) {
    roll_back(standby);
    return done;
  }
  return commit(standby, doing);
}

}  // namespace bitacora::apply
