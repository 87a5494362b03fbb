// A connection that applies: its settings, and the locks that keep a second receiver of the same
// name away.
#pragma once

#include <libpq-fe.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/lsn.h"

namespace bitacora::apply {

struct ClearResult {
  void operator()(PGresult* result) const noexcept { PQclear(result); }
};
using ResultHandle = std::unique_ptr<PGresult, ClearResult>;

// What a failed command or connection means. kStandby, with the server's words; a lost connection
// heals.
Error standby_error(PGconn* connection, const PGresult* result, std::string_view doing);

// One thread owns it.
class StandbySession {
 public:
  // Connects and settles everything that must not depend on the role's or the server's settings:
  // replica role, empty search_path, UTF8, ISO dates, no timeouts, asynchronous commit (what is
  // durable is asked separately, see Durability).
  static Result<StandbySession> connect(const std::string& conninfo,
                                        const std::string& application_name);

  // Held as long as the connection. False when another session has it, or one that joined another.
  Result<bool> try_lock(const std::string& subscription);
  // Another connection of the one that holds the lock: what it was told to do may still happen when
  // that one is gone, so nobody gets the lock before this one is gone too.
  Result<void> join(const std::string& subscription);

  // One round trip, outside pipelines. Parameters as text; fields of the answer as text, NULL as
  // empty optional.
  using Fields = std::vector<std::optional<std::string>>;
  Result<std::vector<Fields>> query(std::string_view doing, const std::string& sql,
                                    const std::vector<std::string>& parameters = {});

  // Whether the server accepts this statement with these parameter types; nothing is executed.
  Result<void> validate(const std::string& sql, const std::vector<Oid>& parameter_types);

  // The text form of one binary value of a built-in or known type, for messages; empty when it
  // cannot be had.
  std::string render(std::string_view bytes, bool binary, Oid type);

  // Asks the server to give up the running command. Thread-safe as long as the session lives.
  void cancel();

  PGconn* connection() { return connection_.get(); }

 private:
  struct Finish {
    void operator()(PGconn* connection) const noexcept { PQfinish(connection); }
  };
  using Handle = std::unique_ptr<PGconn, Finish>;
  struct FreeCancel {
    void operator()(PGcancel* cancel) const noexcept { PQfreeCancel(cancel); }
  };

  explicit StandbySession(Handle connection)
      : connection_(std::move(connection)), cancel_(PQgetCancel(connection_.get())) {}
  Result<void> settle();

  Handle connection_;
  std::unique_ptr<PGcancel, FreeCancel> cancel_;  // null when the connection failed
};

}  // namespace bitacora::apply
