#include "apply/standby_session.h"

#include <array>
#include <utility>

#include <fmt/format.h>

#include "base/sqlstate.h"

namespace bitacora::apply {
namespace {

// session_replication_role comes last and alone: it is the only one that needs a right.
constexpr const char* kSettings =
    "SET search_path = ''; SET client_encoding = 'UTF8'; SET DateStyle = 'ISO'; SET IntervalStyle "
    "= 'postgres';"
    "SET extra_float_digits = 3; SET TimeZone = 'UTC'; SET xmloption = 'content'; SET "
    "standard_conforming_strings = on;"
    "SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0;"
    "SET default_transaction_read_only = off; SET default_transaction_isolation = 'read committed';"
    "SET default_transaction_deferrable = off; SET row_security = off; SET jit = off;"
    "SET client_min_messages = error;"
    // A plan made while a table was small must not turn into full scans once it has grown.
    "SET enable_seqscan = off;"
    "SET synchronous_commit = off";

}  // namespace

Error standby_error(PGconn* connection, const PGresult* result, std::string_view doing) {
  const char* state = result != nullptr ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : nullptr;
  const char* text = result != nullptr ? PQresultErrorMessage(result) : nullptr;
  if (text == nullptr || *text == '\0') text = PQerrorMessage(connection);
  return {ErrorCode::kStandby,
          fmt::format("{}: {}", doing, text),
          {},
          recovery_for_sqlstate(state != nullptr ? state : "")};
}

Result<StandbySession> StandbySession::connect(const std::string& conninfo,
                                               const std::string& application_name) {
  const std::array<const char*, 5> keywords = {"tcp_user_timeout", "connect_timeout", "dbname",
                                               "application_name", nullptr};
  const std::array<const char*, 5> values = {"10000", "4", conninfo.c_str(),
                                             application_name.c_str(), nullptr};
  StandbySession session(Handle(PQconnectdbParams(keywords.data(), values.data(), 1)));
  if (PQstatus(session.connection_.get()) != CONNECTION_OK) {
    return standby_error(session.connection_.get(), nullptr, "cannot connect to the standby");
  }
  RETURN_IF_ERROR(session.settle());
  return session;
}

Result<void> StandbySession::settle() {
  ResultHandle settings(PQexec(connection_.get(), kSettings));
  if (PQresultStatus(settings.get()) != PGRES_COMMAND_OK) {
    return standby_error(connection_.get(), settings.get(), "cannot set up the standby session");
  }
  auto read_only =
      query("cannot ask the standby whether it is in recovery", "SELECT pg_is_in_recovery()");
  if (!read_only.ok()) return read_only.error();
  if ((*read_only)[0][0] == "t") {
    return Error{ErrorCode::kStandby, "the standby is in recovery and takes no writes",
                 "point --standby at a server that is a primary of its own"};
  }
  settings.reset(PQexec(connection_.get(), "SET session_replication_role = replica"));
  if (PQresultStatus(settings.get()) != PGRES_COMMAND_OK) {
    Error error = standby_error(connection_.get(), settings.get(), "cannot take the replica role");
    error.hint = fmt::format(
        "on PostgreSQL 15 or newer run: GRANT SET ON PARAMETER session_replication_role TO {}; on "
        "14 the "
        "role must be a superuser",
        PQuser(connection_.get()));
    return error;
  }
  return {};
}

Result<bool> StandbySession::try_lock(const std::string& subscription) {
  ASSIGN_OR_RETURN(const auto rows,
                   query("cannot lock the subscription's name",
                         "SELECT pg_try_advisory_lock(hashtext('bitacora receiver'), hashtext($1))",
                         {subscription}));
  if (rows[0][0] != "t") return false;
  ASSIGN_OR_RETURN(const auto alone,
                   query("cannot lock the subscription's name",
                         "SELECT CASE WHEN pg_try_advisory_lock(hashtext('bitacora workers'), "
                         "hashtext($1)) THEN pg_advisory_unlock(hashtext('bitacora workers'), "
                         "hashtext($1)) ELSE false END",
                         {subscription}));
  return alone[0][0] == "t";
}

Result<void> StandbySession::join(const std::string& subscription) {
  const auto joined = query("cannot lock the subscription's name",
                            "SELECT pg_advisory_lock_shared(hashtext('bitacora workers'), "
                            "hashtext($1))",
                            {subscription});
  return joined.ok() ? Result<void>{} : joined.error();
}

Result<std::vector<StandbySession::Fields>> StandbySession::query(
    std::string_view doing, const std::string& sql, const std::vector<std::string>& parameters) {
  std::vector<const char*> values;
  for (const auto& parameter : parameters) values.push_back(parameter.c_str());
  const ResultHandle result(PQexecParams(connection_.get(), sql.c_str(),
                                         static_cast<int>(values.size()), nullptr, values.data(),
                                         nullptr, nullptr, 0));
  const auto status = PQresultStatus(result.get());
  if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK) {
    return standby_error(connection_.get(), result.get(), doing);
  }
  std::vector<Fields> rows(static_cast<std::size_t>(PQntuples(result.get())));
  for (int row = 0; row < PQntuples(result.get()); ++row) {
    for (int column = 0; column < PQnfields(result.get()); ++column) {
      const bool null = PQgetisnull(result.get(), row, column) != 0;
      rows[static_cast<std::size_t>(row)].push_back(
          null ? std::nullopt : std::optional<std::string>(PQgetvalue(result.get(), row, column)));
    }
  }
  return rows;
}

Result<void> StandbySession::validate(const std::string& sql,
                                      const std::vector<Oid>& parameter_types) {
  const ResultHandle result(PQprepare(connection_.get(), "", sql.c_str(),
                                      static_cast<int>(parameter_types.size()),
                                      parameter_types.data()));
  if (PQresultStatus(result.get()) == PGRES_COMMAND_OK) return {};
  return standby_error(connection_.get(), result.get(), "the standby refuses");
}

void StandbySession::cancel() {
  std::array<char, 256> reason{};
  // Best effort: when it fails the connection is gone anyway.
  PQcancel(cancel_.get(), reason.data(), static_cast<int>(reason.size()));
}

std::string StandbySession::render(std::string_view bytes, bool binary, Oid type) {
  if (!binary) return std::string(bytes);
  const char* value = bytes.data();
  const int length = static_cast<int>(bytes.size());
  const int format = 1;
  const ResultHandle result(PQexecParams(connection_.get(), "SELECT CAST($1 AS pg_catalog.text)", 1,
                                         &type, &value, &length, &format, 0));
  if (PQresultStatus(result.get()) != PGRES_TUPLES_OK) return {};
  return PQgetvalue(result.get(), 0, 0);
}

}  // namespace bitacora::apply
