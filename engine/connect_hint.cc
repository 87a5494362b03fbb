#include "engine/connect_hint.h"

#include <array>
#include <string_view>

#include <fmt/format.h>

namespace bitacora::engine {
namespace {

struct Hint {
  std::string_view words;
  std::string_view hint;  // {}: the option
};

// The first that fits. Servers may speak another language: then the last one is still right.
constexpr std::array<Hint, 11> kHints = {{
    {"could not translate host name", "check the host in {} and this machine's name service"},
    {"password",
     "check user and password of {}; a password may also come from PGPASSWORD or a passfile"},
    {"pg_hba.conf",
     "add a line for this host, database and role to the server's pg_hba.conf and reload it"},
    {"replication role", "run on the master as a superuser: ALTER ROLE <user of {}> REPLICATION"},
    {"start WAL sender", "run on the master as a superuser: ALTER ROLE <user of {}> REPLICATION"},
    {"role \"", "check the user in {}, or make the role: CREATE ROLE ... LOGIN"},
    {"database \"", "check dbname in {}"},
    {"Connection refused", "check that the server runs and host and port in {}"},
    {"No such file or directory", "check that the server runs and host and port in {}"},
    {"timeout", "check that the server runs, the firewall, and host and port in {}"},
    {"", "check that the server runs and takes connections as {} says"},
}};

}  // namespace

Error with_connect_hint(Error error, const std::string& option) {
  if (!error.hint.empty()) return error;
  for (const auto& [words, hint] : kHints) {
    if (error.message.find(words) == std::string::npos) continue;
    error.hint = fmt::format(fmt::runtime(hint), option);
    break;
  }
  return error;
}

}  // namespace bitacora::engine
