// From 18 on the master only warns that a stream's publication is gone, and leaves its changes out.
#pragma once

#include <libpq-fe.h>

#include <memory>
#include <string>

#include "base/error.h"

namespace bitacora::wal {

// Listens to a connection's warnings, and must live as long as that one reads. Same thread.
class PublicationWatch {
 public:
  explicit PublicationWatch(PGconn* connection);

  // kMaster (kStop) once it was skipped: what came since lacks changes.
  Result<void> check() const;

 private:
  std::unique_ptr<std::string> warning_;  // empty so far; libpq holds its address
};

}  // namespace bitacora::wal
