// Ordinary SQL on the master: catalogue queries, slot and publication. libpqxx's exceptions stop
// here.
#pragma once

#include <functional>
#include <memory>
#include <pqxx/pqxx>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/lsn.h"

namespace bitacora::wal {

struct MasterFacts {
  int server_version = 0;  // as server_version_num
  std::string role;
  bool superuser = false;
  bool can_replicate = false;
  std::string wal_level;
  bool in_recovery = false;
  bool hot_standby_feedback = false;  // of its own settings; matters in recovery
  std::string encoding;
};

// One thread owns it; it reconnects by itself when the connection was lost before a query.
class MasterSession {
 public:
  // `conninfo` as libpq reads it.
  explicit MasterSession(std::string conninfo) : conninfo_(std::move(conninfo)) {}

  // Runs `work` in a transaction of its own and commits it. Errors are kMaster with the server's
  // words; what heals has Recovery::kRetry. `doing` says what failed, for the message.
  Result<void> transact(std::string_view doing, const std::function<void(pqxx::work&)>& work);

  // The same without a transaction block, for what cannot run in one.
  Result<void> execute(std::string_view doing,
                       const std::function<void(pqxx::nontransaction&)>& work);

  Result<MasterFacts> facts();
  Result<MasterLsn> current_wal_lsn();
  // How much WAL the walsender that streams the slot has not read yet; empty while there is none.
  Result<std::optional<std::uint64_t>> unread_wal(const std::string& slot);
  Result<bool> in_recovery();

  // A session lock that marks this slot as taken by a sender; false when another session holds it.
  Result<bool> try_lock_slot(const std::string& slot);

  void disconnect() { connection_.reset(); }

 private:
  void ensure_connected();

  std::string conninfo_;
  std::unique_ptr<pqxx::connection> connection_;
};

// Refuses a master that cannot serve a stream: too old, a standby that is too old for that,
// wal_level, a role without REPLICATION, SQL_ASCII.
Result<void> check_master(const MasterFacts& facts);

}  // namespace bitacora::wal
