// Work on the master that needs locks on tables: tried again and again, each time so briefly that
// a long transaction of the application does not make all others queue behind us.
#pragma once

#include <chrono>
#include <functional>
#include <stop_token>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "wal/master_session.h"
#include "wal/publication_plan.h"

namespace bitacora::wal {

struct LockPatience {
  std::chrono::milliseconds lock_timeout{2000};  // others queue behind us for that long
  std::chrono::milliseconds pause{1000};         // in which they go on
  int attempts = 20;
};

// Runs `work` in a transaction, as MasterSession::transact(). When it got no lock in the end:
// kMaster, which names who holds one on `tables`, and nothing was changed.
Result<void> transact_patiently(MasterSession& master, std::string_view doing,
                                const std::vector<QualifiedTable>& tables,
                                const LockPatience& patience, const std::stop_token& stop,
                                const std::function<void(pqxx::work&)>& work);

}  // namespace bitacora::wal
