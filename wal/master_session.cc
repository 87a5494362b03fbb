#include "wal/master_session.h"

#include <fmt/format.h>

#include "base/sqlstate.h"
#include "wal/wal_end.h"

namespace bitacora::wal {
namespace {

constexpr int kOldestVersion = 140000;
constexpr int kOldestStandby = 160000;  // that decodes logically

// Turns what libpqxx throws into an Error. Call inside a catch block.
Error current_exception_as_error(std::string_view doing) {
  try {
    throw;
  } catch (const pqxx::broken_connection& e) {
    return {ErrorCode::kMaster, fmt::format("{}: {}", doing, e.what()), {}, Recovery::kRetry};
  } catch (const pqxx::transaction_rollback&
               e) {  // class 40, which libpqxx does not derive from sql_error
    return {ErrorCode::kMaster, fmt::format("{}: {}", doing, e.what()), {}, Recovery::kRetry};
  } catch (const pqxx::insufficient_privilege& e) {  // libpqxx leaves its SQLSTATE empty
    return {ErrorCode::kMaster, fmt::format("{}: {}", doing, e.what())};
  } catch (const pqxx::sql_error& e) {
    return {ErrorCode::kMaster,
            fmt::format("{}: {}", doing, e.what()),
            {},
            recovery_for_sqlstate(e.sqlstate())};
  } catch (const std::exception& e) {
    return {ErrorCode::kMaster, fmt::format("{}: {}", doing, e.what())};
  }
}

}  // namespace

void MasterSession::ensure_connected() {
  if (connection_ && connection_->is_open()) return;
  connection_ = std::make_unique<pqxx::connection>(conninfo_);
  pqxx::nontransaction settings(*connection_);
  settings.exec("SET application_name = 'bitacora sender'");
  settings.exec("SET search_path = ''");
  settings.exec("SET jit = off");  // compiling takes longer than any of the queries
  settings.exec("SET client_encoding = 'UTF8'");
  // So that no query of the catalogue needs a temporary file, for which there may be no room.
  settings.exec(
      "SELECT pg_catalog.set_config('work_mem', '4MB', false)"
      " WHERE pg_catalog.pg_size_bytes(pg_catalog.current_setting('work_mem')) < 4194304");
}

Result<void> MasterSession::transact(std::string_view doing,
                                     const std::function<void(pqxx::work&)>& work) try {
  ensure_connected();
  pqxx::work transaction(*connection_);
  work(transaction);
  transaction.commit();
  return {};
} catch (...) {
  const Error error = current_exception_as_error(doing);
  if (error.heals()) disconnect();
  return error;
}

Result<void> MasterSession::execute(std::string_view doing,
                                    const std::function<void(pqxx::nontransaction&)>& work) try {
  ensure_connected();
  pqxx::nontransaction transaction(*connection_);
  work(transaction);
  return {};
} catch (...) {
  const Error error = current_exception_as_error(doing);
  if (error.heals()) disconnect();
  return error;
}

Result<MasterFacts> MasterSession::facts() {
  MasterFacts facts;
  RETURN_IF_ERROR(execute("cannot query the master", [&](pqxx::nontransaction& tx) {
    const auto row = tx.exec1(
        "SELECT current_setting('server_version_num')::int, current_user, r.rolsuper, "
        "r.rolreplication,"
        " current_setting('wal_level'), pg_is_in_recovery(),"
        " current_setting('hot_standby_feedback')::bool,"
        " (SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = "
        "current_database())"
        " FROM pg_roles r WHERE r.rolname = current_user");
    facts = {row[0].as<int>(),  row[1].as<std::string>(), row[2].as<bool>(),
             row[3].as<bool>(), row[4].as<std::string>(), row[5].as<bool>(),
             row[6].as<bool>(), row[7].as<std::string>()};
  }));
  return facts;
}

Result<MasterLsn> MasterSession::current_wal_lsn() {
  std::optional<std::uint64_t> lsn;
  RETURN_IF_ERROR(execute("cannot read the master's WAL position", [&](pqxx::nontransaction& tx) {
    lsn = parse_lsn(tx.exec1(fmt::format("SELECT {}", kWalEnd))[0].c_str());
  }));
  return MasterLsn{lsn.value_or(0)};
}

Result<std::optional<std::uint64_t>> MasterSession::unread_wal(const std::string& slot) {
  std::optional<std::uint64_t> unread;
  RETURN_IF_ERROR(execute("cannot look at the walsender", [&](pqxx::nontransaction& tx) {
    const auto rows = tx.exec_params(
        fmt::format(
            "SELECT greatest(0, pg_wal_lsn_diff({}, r.sent_lsn))::int8"
            " FROM pg_replication_slots s JOIN pg_stat_replication r ON r.pid = s.active_pid"
            " WHERE s.slot_name = $1 AND r.sent_lsn IS NOT NULL",
            kWalEnd),
        slot);
    if (!rows.empty()) unread = rows[0][0].as<std::uint64_t>();
  }));
  return unread;
}

Result<bool> MasterSession::in_recovery() {
  bool in_recovery = false;
  RETURN_IF_ERROR(execute("cannot query the master", [&](pqxx::nontransaction& tx) {
    in_recovery = tx.exec1("SELECT pg_is_in_recovery()")[0].as<bool>();
  }));
  return in_recovery;
}

Result<bool> MasterSession::try_lock_slot(const std::string& slot) {
  bool locked = false;
  RETURN_IF_ERROR(execute("cannot lock the slot's name", [&](pqxx::nontransaction& tx) {
    locked =
        tx.exec_params("SELECT pg_try_advisory_lock(hashtext('bitacora sender'), hashtext($1))",
                       slot)[0][0]
            .as<bool>();
  }));
  return locked;
}

Result<void> check_master(const MasterFacts& facts) {
  if (facts.server_version < kOldestVersion) {
    return Error{ErrorCode::kMaster,
                 fmt::format("the master is PostgreSQL {}", facts.server_version / 10000),
                 "Bitácora needs 14 or newer"};
  }
  if (facts.in_recovery && facts.server_version < kOldestStandby) {
    return Error{ErrorCode::kMaster,
                 fmt::format("the master is itself a standby (in recovery) of PostgreSQL {}",
                             facts.server_version / 10000),
                 fmt::format("point --master at the primary; a standby has to be {} or newer",
                             kOldestStandby / 10000)};
  }
  if (facts.wal_level != "logical") {
    return Error{ErrorCode::kMaster, fmt::format("the master has wal_level = {}", facts.wal_level),
                 "run: ALTER SYSTEM SET wal_level = logical, then restart the master"};
  }
  if (!facts.can_replicate && !facts.superuser) {
    return Error{
        ErrorCode::kMaster, fmt::format("role {} may not replicate", facts.role),
        fmt::format("run on the master as a superuser: ALTER ROLE {} REPLICATION", facts.role)};
  }
  if (facts.encoding == "SQL_ASCII") {
    return Error{ErrorCode::kMaster,
                 "the master's database has encoding SQL_ASCII, whose text has no meaning",
                 "move it to a database with a real encoding, for example UTF8"};
  }
  return {};
}

}  // namespace bitacora::wal
