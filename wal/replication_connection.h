// A connection in replication mode: IDENTIFY_SYSTEM, TIMELINE_HISTORY, START_REPLICATION and the
// CopyBoth stream after it. Source:
// https://www.postgresql.org/docs/current/protocol-replication.html
#pragma once

#include <libpq-fe.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/lsn.h"
#include "wal/timeline_history.h"

namespace bitacora::wal {

struct SystemIdentity {
  std::uint64_t system_identifier = 0;
  TimelineHistory history;
  MasterLsn wal_lsn;
  std::string database;
};

// XLogData carries a payload; a keepalive has none.
struct StreamMessage {
  bool keepalive = false;
  MasterLsn wal_end;
  std::int64_t send_time_usec = 0;  // since 1970, the master's clock
  bool reply_requested = false;     // keepalive only
  std::string_view payload;         // valid until the next receive()
};

// What the walsender learns of us: pg_stat_replication shows the three, synchronous commits wait
// for them.
struct StandbyStatus {
  MasterLsn written;
  MasterLsn flushed;  // the slot's confirmed_flush_lsn follows this one
  MasterLsn applied;

  friend bool operator==(const StandbyStatus&, const StandbyStatus&) = default;
};

// One thread owns it. Errors are kMaster; a lost connection or a busy slot has Recovery::kRetry.
class ReplicationConnection {
 public:
  // `application_name` is what synchronous_standby_names can name.
  static Result<ReplicationConnection> connect(const std::string& conninfo,
                                               const std::string& application_name);

  int server_version() const { return PQserverVersion(connection_.get()); }
  Result<SystemIdentity> identify_system();  // two round trips from timeline 2 on

  using Option = std::pair<std::string, std::string>;
  // The server moves a start below the slot's confirmed_flush_lsn silently forward: compare before.
  Result<void> start_replication(const std::string& slot, MasterLsn start_lsn,
                                 const std::vector<Option>& plugin_options);

  // The next message that has already arrived; empty when none has. Never blocks. From 18 on the
  // master only warns that the publication is gone and leaves its changes out: that is an error
  // here too (kStop).
  Result<std::optional<StreamMessage>> receive();

  // Blocks until bytes arrive, `wake_descriptor` becomes readable, or the time is over.
  void wait(int wake_descriptor, std::chrono::milliseconds timeout);

  Result<void> send_status(const StandbyStatus& status, bool request_reply);

 private:
  struct Finish {
    void operator()(PGconn* connection) const noexcept { PQfinish(connection); }
  };
  struct FreeMemory {
    void operator()(char* memory) const noexcept { PQfreemem(memory); }
  };
  using Handle = std::unique_ptr<PGconn, Finish>;

  explicit ReplicationConnection(Handle connection);
  Result<std::string> timeline_history(std::uint32_t timeline);
  Error failure(std::string_view doing, const PGresult* result = nullptr) const;
  Result<StreamMessage> parse(std::string_view bytes) const;

  std::unique_ptr<std::string>
      skipped_publication_;  // the warning, empty so far; libpq holds its address
  Handle connection_;
  std::unique_ptr<char, FreeMemory> buffer_;
};

}  // namespace bitacora::wal
