// Who is in the way of a session of the master that waits for a lock, or for a transaction to end.
#pragma once

#include <functional>
#include <string>

#include "base/error.h"
#include "wal/master_connection.h"

namespace bitacora::wal {

// Told what is being waited for, at most once a second.
using OnWaiting = std::function<void(const std::string& what)>;

// One thread owns it. It asks on a connection of its own, which it opens at the first question.
class LockWatch {
 public:
  explicit LockWatch(std::string conninfo) : conninfo_(std::move(conninfo)) {}

  // As base/blocking_session.h describes it. Empty: `backend` waits for nobody. Where the master
  // does not say, why it does not.
  std::string find(int backend);
  // Passes that on, if there is something to tell and somebody to hear it.
  void tell(int backend, const OnWaiting& waiting);

 private:
  Result<std::string> ask(int backend);

  const std::string conninfo_;
  MasterConnection connection_;
};

}  // namespace bitacora::wal
