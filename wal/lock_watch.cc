#include "wal/lock_watch.h"

#include <fmt/format.h>

#include "base/blocking_session.h"

namespace bitacora::wal {

Result<std::string> LockWatch::ask(int backend) {
  if (!connection_) {
    MasterConnector connector(conninfo_, "bitacora copy", MasterConnector::Mode::kSql);
    ASSIGN_OR_RETURN(connection_, connector.connect());
  }
  ASSIGN_OR_RETURN(const auto rows,
                   query(connection_.get(), blocking_query(fmt::format("l.pid = {}", backend)),
                         "cannot ask who holds a lock"));
  if (PQntuples(rows.get()) == 0) return std::string();
  BlockingSession found;
  for (int column = 0; column < PQnfields(rows.get()); ++column)
    found.at(static_cast<std::size_t>(column)) = PQgetvalue(rows.get(), 0, column);
  return describe(found);
}

void LockWatch::tell(int backend, const OnWaiting& waiting) {
  if (!waiting) return;
  const auto blocker = find(backend);
  if (!blocker.empty()) waiting(blocker);
}

std::string LockWatch::find(int backend) {
  auto found = ask(backend);
  if (found.ok()) return std::move(found).value();
  connection_.reset();
  return fmt::format("the master, which does not say why ({})", one_line(found.error()));
}

}  // namespace bitacora::wal
