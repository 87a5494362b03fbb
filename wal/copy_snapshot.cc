#include "wal/copy_snapshot.h"

#include <array>
#include <string_view>

#include <fmt/format.h>

#include "wal/answer_wait.h"
#include "wal/replication_slot.h"
#include "wal/system_identity.h"

namespace bitacora::wal {
namespace {

constexpr const char* kApplicationName = "bitacora copy";
constexpr const char* kMaking = "cannot make a snapshot for the copy";
constexpr int kParenthesizedOptions = 150000;  // of replication commands: from 15 on

// Of SET TRANSACTION SNAPSHOT, when there is none of that name, or its owner has just ended.
bool says_gone(std::string_view sqlstate) {
  static constexpr std::array<std::string_view, 3> kGone = {"22023", "42704", "55000"};
  for (const auto state : kGone) {
    if (sqlstate == state) return true;
  }
  return false;
}

Result<void> enter_snapshot(PGconn* connection, const std::string& name) {
  const auto doing = fmt::format("cannot copy in snapshot {}", name);
  RETURN_IF_ERROR(command(connection, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", doing));
  const auto sql = "SET TRANSACTION SNAPSHOT " + quoted_literal(connection, name);
  const MasterResult result(PQexec(connection, sql.c_str()));
  if (PQresultStatus(result.get()) == PGRES_COMMAND_OK) return {};
  const char* state = PQresultErrorField(result.get(), PG_DIAG_SQLSTATE);
  if (state == nullptr || !says_gone(state)) return master_error(connection, doing, result.get());
  return Error{ErrorCode::kState,
               fmt::format("snapshot {} of the master has ended: {}", name,
                           PQresultErrorMessage(result.get())),
               "the copy goes on in a new snapshot"};
}

// Who is in the way, in words.
std::string what_is_missing(LockWatch& watch, int backend, bool standby) {
  const auto blocker = watch.find(backend);
  if (!blocker.empty()) return blocker;
  return standby ? "the primary has not written yet which transactions run there (run on it: "
                   "SELECT pg_log_standby_snapshot())"
                 : "the transactions that are open now have not ended yet";
}

struct ExportedSnapshot {
  MasterConnection owner;  // in replication mode; with it go slot and snapshot
  MasterLsn lsn;
  std::string name;
};

Result<ExportedSnapshot> export_from_a_slot(const std::string& conninfo, const OnWaiting& waiting,
                                            const std::stop_token& stop) {
  MasterConnector connector(conninfo, kApplicationName);
  ASSIGN_OR_RETURN(auto owner, connector.connect());
  PGconn* pq = owner.get();
  ASSIGN_OR_RETURN(const auto server, identify_server(pq));
  const auto sql = fmt::format(
      "CREATE_REPLICATION_SLOT \"bitacora_copy_{}\" TEMPORARY LOGICAL pgoutput {}",
      PQbackendPID(pq),
      PQserverVersion(pq) >= kParenthesizedOptions ? "(SNAPSHOT 'export')" : "EXPORT_SNAPSHOT");
  if (PQsendQuery(pq, sql.c_str()) != 1) return master_error(pq, kMaking);
  LockWatch watch(conninfo);
  const auto tell = [&] {
    if (waiting) waiting(what_is_missing(watch, PQbackendPID(pq), server.in_recovery));
  };
  RETURN_IF_ERROR(AnswerWait(pq, kMaking, tell, stop).answer());
  const MasterResult row(PQgetResult(pq));
  if (PQresultStatus(row.get()) != PGRES_TUPLES_OK)
    return with_creation_hint(master_error(pq, kMaking, row.get()));
  const char* lsn = field(row.get(), 0, 1);
  const char* name = field(row.get(), 0, 2);
  if (lsn == nullptr || name == nullptr)
    return Error{ErrorCode::kMaster, fmt::format("{}: the slot came without one", kMaking)};
  return ExportedSnapshot{std::move(owner), MasterLsn{parse_lsn(lsn).value_or(0)}, name};
}

}  // namespace

Result<MasterConnection> open_in_snapshot(const std::string& conninfo, const std::string& name) {
  MasterConnector connector(conninfo, kApplicationName, MasterConnector::Mode::kSql);
  ASSIGN_OR_RETURN(auto connection, connector.connect());
  RETURN_IF_ERROR(enter_snapshot(connection.get(), name));
  return connection;
}

Result<CopySnapshot> CopySnapshot::make(const std::string& conninfo, const OnWaiting& waiting,
                                        const std::stop_token& stop) {
  ASSIGN_OR_RETURN(const auto exported, export_from_a_slot(conninfo, waiting, stop));
  ASSIGN_OR_RETURN(auto holder, open_in_snapshot(conninfo, exported.name));
  ASSIGN_OR_RETURN(const auto row,
                   query(holder.get(), "SELECT pg_catalog.pg_export_snapshot()", kMaking));
  return CopySnapshot(std::move(holder), exported.lsn, PQgetvalue(row.get(), 0, 0));
}

bool CopySnapshot::alive() {
  return query(holder_.get(), "SELECT 1", "").ok() &&
         PQtransactionStatus(holder_.get()) == PQTRANS_INTRANS;
}

}  // namespace bitacora::wal
