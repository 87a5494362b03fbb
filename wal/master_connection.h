// The readers' and the copy's connections to the master, as libpq has them. Where the master runs
// on this host its Unix socket is taken: a walsender sends and receives once per change, which
// costs half as much there as over TCP.
#pragma once

#include <libpq-fe.h>

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"

namespace bitacora::wal {

struct FinishConnection {
  void operator()(PGconn* connection) const noexcept { PQfinish(connection); }
};
struct ClearResult {
  void operator()(PGresult* result) const noexcept { PQclear(result); }
};
using MasterConnection = std::unique_ptr<PGconn, FinishConnection>;
using MasterResult = std::unique_ptr<PGresult, ClearResult>;

// kMaster with the server's words, and a hint where one is known.
Error master_error(PGconn* connection, std::string_view doing, const PGresult* result = nullptr);

std::string quoted_literal(PGconn* connection, const std::string& text);

// The rows of one statement, as text. kMaster.
Result<MasterResult> query(PGconn* connection, const std::string& sql, std::string_view doing);
// Statements without rows.
Result<void> command(PGconn* connection, const std::string& sql, std::string_view doing);
// Of a column that is NULL, nullptr.
const char* field(const PGresult* rows, int row, int column);

// Asks the master to give up what it does for this connection. Blocks for as long as that request
// takes to arrive.
void cancel_query(PGconn* connection);

// One thread owns it.
class MasterConnector {
 public:
  enum class Mode {
    kReplication,  // ordinary SQL works as well, without parameters
    kSql,          // nothing a server, a database or a role has set ends it or shows in its answers
  };

  // `application_name` is what synchronous_standby_names can name.
  MasterConnector(std::string conninfo, std::string application_name,
                  Mode mode = Mode::kReplication)
      : conninfo_(std::move(conninfo)),
        application_name_(std::move(application_name)),
        mode_(mode) {}

  // By the Unix socket when the conninfo leads to this host, the server has one that we can reach,
  // and it is the same server that answers there. A socket that lets us down is not tried again.
  // Errors: kMaster; what heals has Recovery::kRetry.
  Result<MasterConnection> connect();

  // The socket's directory, or "tcp" (also where the conninfo itself names a directory).
  const std::string& through() const { return through_; }

 private:
  Result<MasterConnection> open(const std::string& socket_directory, const std::string& port);
  Result<MasterConnection> connect_by_socket(PGconn* by_tcp);

  const std::string conninfo_;
  const std::string application_name_;
  const Mode mode_;
  std::string through_ = "tcp";
  bool try_socket_ = true;
};

}  // namespace bitacora::wal
