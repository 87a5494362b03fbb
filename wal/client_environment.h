// How a PostgreSQL client program is told where the master is: not by its arguments, which others
// can see. Source: https://www.postgresql.org/docs/current/libpq-envars.html
#pragma once

#include <string>
#include <vector>

#include "base/error.h"

namespace bitacora::wal {

struct ClientEnvironment {
  std::vector<std::string> variables;  // NAME=value; passwords are among them
  // What has no variable, in the format of a service file: for a file that PGSERVICEFILE names, as
  // the service of PGSERVICE=bitacora. Passwords may be in it.
  std::string service;
};

// As the conninfo leads there from here, services, defaults and the Unix socket taken into account:
// it connects. kMaster.
Result<ClientEnvironment> client_environment(const std::string& conninfo);

}  // namespace bitacora::wal
