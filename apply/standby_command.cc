#include "apply/standby_command.h"

#include <fmt/format.h>

namespace bitacora::apply {
namespace {

// A cancel request that came late may strike the ROLLBACK itself.
constexpr int kRollbacksMax = 3;

}  // namespace

CommandOutcome execute(StandbySession& standby, std::string_view doing, const std::string& sql) {
  const ResultHandle result(PQexec(standby.connection(), sql.c_str()));
  const auto status = PQresultStatus(result.get());
  if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK || status == PGRES_COPY_IN) return {};
  const char* state = PQresultErrorField(result.get(), PG_DIAG_SQLSTATE);
  return {standby_error(standby.connection(), result.get(), doing), state != nullptr ? state : ""};
}

Result<void> commit(StandbySession& standby, std::string_view doing) {
  const ResultHandle result(PQexec(standby.connection(), "COMMIT"));
  if (PQresultStatus(result.get()) == PGRES_COMMAND_OK) {
    // The server's answer to the COMMIT of a failed transaction is ROLLBACK, and no error.
    if (std::string_view(PQcmdStatus(result.get())) == "COMMIT") return {};
    return Error{ErrorCode::kInternal, fmt::format("{}: the standby rolled it back", doing)};
  }
  Error error = standby_error(standby.connection(), result.get(), doing);
  if (PQstatus(standby.connection()) == CONNECTION_BAD) error.recovery = Recovery::kInDoubt;
  roll_back(standby);
  return error;
}

void roll_back(StandbySession& standby) {
  PGconn* connection = standby.connection();
  if (PQtransactionStatus(connection) == PQTRANS_ACTIVE) {
    PQputCopyEnd(connection, "given up by bitacora");
    while (ResultHandle result{PQgetResult(connection)}) {
    }
  }
  for (int tries = 0; tries < kRollbacksMax; ++tries) {
    const auto status = PQtransactionStatus(connection);
    if (status == PQTRANS_IDLE || status == PQTRANS_UNKNOWN) return;
    const ResultHandle result(PQexec(connection, "ROLLBACK"));
  }
}

}  // namespace bitacora::apply
