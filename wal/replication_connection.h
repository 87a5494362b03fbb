// A slot's stream: START_REPLICATION and CopyBoth after it. Source:
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

#include "base/error.h"
#include "base/lsn.h"
#include "wal/master_connection.h"
#include "wal/plugin_options.h"
#include "wal/publication_watch.h"

namespace bitacora::wal {

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
  // In replication mode.
  explicit ReplicationConnection(MasterConnection connection)
      : connection_(std::move(connection)), publication_(connection_.get()) {}

  int server_version() const { return PQserverVersion(connection_.get()); }

  // The server moves a start below the slot's confirmed_flush_lsn silently forward: compare before.
  Result<void> start_replication(const std::string& slot, MasterLsn start_lsn,
                                 const PluginOptions& plugin_options);

  // The next message that has already arrived; empty when none has. Never blocks.
  Result<std::optional<StreamMessage>> receive();

  // Blocks until bytes arrive, `wake_descriptor` becomes readable, or the time is over.
  void wait(int wake_descriptor, std::chrono::milliseconds timeout);

  Result<void> send_status(const StandbyStatus& status, bool request_reply);

 private:
  struct FreeMemory {
    void operator()(char* memory) const noexcept { PQfreemem(memory); }
  };

  Result<StreamMessage> parse(std::string_view bytes) const;

  MasterConnection connection_;
  PublicationWatch publication_;
  std::unique_ptr<char, FreeMemory> buffer_;
};

}  // namespace bitacora::wal
