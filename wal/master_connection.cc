#include "wal/master_connection.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <sstream>

#include <fmt/format.h>

#include "base/sqlstate.h"

namespace bitacora::wal {
namespace {

// The address of one end of a TCP connection; empty for any other socket.
std::string address_of(int (*name_of)(int, sockaddr*, socklen_t*), int socket) {
  sockaddr_storage storage{};
  socklen_t length = sizeof storage;
  if (name_of(socket, reinterpret_cast<sockaddr*>(&storage), &length) != 0) return {};
  const auto bytes = [](const auto& address) {
    return std::string(reinterpret_cast<const char*>(&address), sizeof address);
  };
  if (storage.ss_family == AF_INET)
    return bytes(reinterpret_cast<const sockaddr_in&>(storage).sin_addr);
  if (storage.ss_family == AF_INET6)
    return bytes(reinterpret_cast<const sockaddr_in6&>(storage).sin6_addr);
  return {};
}

bool within_this_host(int socket) {
  const auto peer = address_of(getpeername, socket);
  return !peer.empty() && peer == address_of(getsockname, socket);
}

// What tells one server from another, even from its own standby beside it. The directories are
// shown to roles that may read all settings only.
struct Server {
  std::string started;
  std::string port;
  std::string socket_directories;
};

Result<Server> look_at_server(PGconn* connection) {
  ASSIGN_OR_RETURN(
      const auto row,
      query(connection,
            "SELECT pg_catalog.pg_postmaster_start_time(), pg_catalog.current_setting('port'),"
            " (SELECT setting FROM pg_catalog.pg_settings WHERE name = 'unix_socket_directories')",
            "cannot ask for the master's socket"));
  return Server{PQgetvalue(row.get(), 0, 0), PQgetvalue(row.get(), 0, 1),
                PQgetvalue(row.get(), 0, 2)};
}

// libpq's own, where a server that does not tell is most likely to have it.
std::string default_socket_directory() {
  std::string directory;
  PQconninfoOption* options = PQconndefaults();
  for (const auto* option = options; option != nullptr && option->keyword != nullptr; ++option) {
    if (std::strcmp(option->keyword, "host") == 0 && option->val != nullptr)
      directory = option->val;
  }
  PQconninfoFree(options);
  return directory.starts_with('/') ? directory : "/var/run/postgresql";
}

// What the conninfo's server, database or role may have set for a long session, or for one that
// reads tables whole; a version has some of them.
constexpr const char* kPinSettings = R"(
SELECT pg_catalog.set_config(s.name, s.value, false) FROM (VALUES
  ('search_path', ''), ('row_security', 'off'), ('TimeZone', 'UTC'), ('bytea_output', 'hex'),
  ('statement_timeout', '0'), ('lock_timeout', '0'), ('transaction_timeout', '0'),
  ('idle_in_transaction_session_timeout', '0'), ('idle_session_timeout', '0'),
  ('enable_tidscan', 'on'), ('max_parallel_workers_per_gather', '0')) AS s (name, value)
WHERE pg_catalog.current_setting(s.name, true) IS NOT NULL)";

std::vector<std::string> sockets_in_reach(const Server& server) {
  std::vector<std::string> directories;
  std::istringstream listed(server.socket_directories.empty() ? default_socket_directory()
                                                              : server.socket_directories);
  for (std::string directory; std::getline(listed, directory, ',');) {
    directory.erase(0, directory.find_first_not_of(' '));
    const auto path = fmt::format("{}/.s.PGSQL.{}", directory, server.port);
    if (access(path.c_str(), W_OK) == 0) directories.push_back(directory);
  }
  return directories;
}

}  // namespace

Error master_error(PGconn* connection, std::string_view doing, const PGresult* result) {
  const char* state = result != nullptr ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : nullptr;
  const char* text = result != nullptr ? PQresultErrorMessage(result) : nullptr;
  if (text == nullptr || *text == '\0') text = PQerrorMessage(connection);
  const std::string_view sqlstate = state != nullptr ? state : "";
  Error error{
      ErrorCode::kMaster, fmt::format("{}: {}", doing, text), {}, recovery_for_sqlstate(sqlstate)};
  if (std::string_view(text).find("max_wal_senders") != std::string_view::npos) {
    error.hint =
        "raise max_wal_senders on the master and restart it, or end an unused replication "
        "connection";
  } else if (std::string_view(text).find("pg_hba.conf") != std::string_view::npos) {
    error.hint =
        "add a line for this host, database and role to the master's pg_hba.conf and reload it";
  } else if (sqlstate == "55006") {
    error.hint = "another process reads this slot: stop it, or use another --stream";
  }
  return error;
}

std::string quoted_literal(PGconn* connection, const std::string& text) {
  std::unique_ptr<char, void (*)(void*)> quoted(
      PQescapeLiteral(connection, text.data(), text.size()), PQfreemem);
  return quoted ? quoted.get() : "''";
}

Result<MasterResult> query(PGconn* connection, const std::string& sql, std::string_view doing) {
  MasterResult result(PQexec(connection, sql.c_str()));
  if (PQresultStatus(result.get()) != PGRES_TUPLES_OK)
    return master_error(connection, doing, result.get());
  return result;
}

Result<void> command(PGconn* connection, const std::string& sql, std::string_view doing) {
  const MasterResult result(PQexec(connection, sql.c_str()));
  if (PQresultStatus(result.get()) != PGRES_COMMAND_OK)
    return master_error(connection, doing, result.get());
  return {};
}

const char* field(const PGresult* rows, int row, int column) {
  return PQgetisnull(rows, row, column) == 1 ? nullptr : PQgetvalue(rows, row, column);
}

void cancel_query(PGconn* connection) {
  const std::unique_ptr<PGcancel, void (*)(PGcancel*)> cancel(PQgetCancel(connection),
                                                              PQfreeCancel);
  std::array<char, 256> ignored{};
  if (cancel) PQcancel(cancel.get(), ignored.data(), static_cast<int>(ignored.size()));
}

Result<MasterConnection> MasterConnector::open(const std::string& socket_directory,
                                               const std::string& port) {
  // Before dbname: defaults that the conninfo may overrule. After it: what must hold (an empty
  // value says nothing). The settings are those PostgreSQL's own subscription uses, so that text
  // output can be read back anywhere.
  const std::array<std::pair<const char*, const char*>, 9> parameters = {{
      {"tcp_user_timeout", "10000"},
      {"connect_timeout", "4"},
      {"dbname", conninfo_.c_str()},
      {"host", socket_directory.c_str()},
      {"port", port.c_str()},
      {"replication", mode_ == Mode::kReplication ? "database" : ""},
      {"application_name", application_name_.c_str()},
      {"client_encoding", "UTF8"},
      {"options",
       "-c datestyle=ISO -c intervalstyle=postgres -c extra_float_digits=3 -c "
       "client_min_messages=warning -c jit=off -c statement_timeout=0 -c lock_timeout=0 "
       "-c idle_in_transaction_session_timeout=0"},
  }};
  std::array<const char*, 10> keywords{};
  std::array<const char*, 10> values{};
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    keywords[i] = parameters[i].first;
    values[i] = parameters[i].second;
  }
  MasterConnection connection(PQconnectdbParams(keywords.data(), values.data(), 1));
  if (PQstatus(connection.get()) != CONNECTION_OK)
    return master_error(connection.get(), mode_ == Mode::kReplication
                                              ? "cannot open a replication connection to the master"
                                              : "cannot connect to the master");
  if (mode_ == Mode::kSql)
    RETURN_IF_ERROR(query(connection.get(), kPinSettings, "cannot prepare a session"));
  return connection;
}

Result<MasterConnection> MasterConnector::connect() {
  through_ = "tcp";
  ASSIGN_OR_RETURN(auto by_tcp, open("", ""));
  if (!try_socket_ || !within_this_host(PQsocket(by_tcp.get()))) return by_tcp;
  auto by_socket = connect_by_socket(by_tcp.get());
  try_socket_ = by_socket.ok();
  if (by_socket.ok()) return by_socket;
  return by_tcp;
}

// A hostaddr in the conninfo would win over the directory: then the connection that comes is by
// TCP once more.
Result<MasterConnection> MasterConnector::connect_by_socket(PGconn* by_tcp) {
  ASSIGN_OR_RETURN(const auto server, look_at_server(by_tcp));
  for (const auto& directory : sockets_in_reach(server)) {
    auto connection = open(directory, server.port);
    if (!connection.ok() || !address_of(getpeername, PQsocket(connection->get())).empty()) continue;
    const auto found = look_at_server(connection->get());
    if (!found.ok() || found->started != server.started || found->port != server.port) continue;
    through_ = directory;
    return connection;
  }
  return Error{ErrorCode::kMaster, "the master has no Unix socket for us", {}, Recovery::kRetry};
}

}  // namespace bitacora::wal
