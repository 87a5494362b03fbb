#include "wal/client_environment.h"

#include <cstring>
#include <memory>
#include <string_view>

#include <fmt/format.h>

#include "wal/master_connection.h"

namespace bitacora::wal {
namespace {

// A program with another libpq may not know a keyword: what says nothing new is left out.
bool says_something(const PQconninfoOption& option) {
  if (option.val == nullptr || *option.val == '\0') return false;
  if (option.envvar != nullptr) return true;
  return option.compiled == nullptr || std::strcmp(option.val, option.compiled) != 0;
}

}  // namespace

Result<ClientEnvironment> client_environment(const std::string& conninfo) {
  MasterConnector connector(conninfo, "bitacora copy", MasterConnector::Mode::kSql);
  ASSIGN_OR_RETURN(const auto connection, connector.connect());
  const std::unique_ptr<PQconninfoOption, void (*)(PQconninfoOption*)> options(
      PQconninfo(connection.get()), PQconninfoFree);
  ClientEnvironment environment;
  environment.service = "[bitacora]\n";
  for (const auto* option = options.get(); option != nullptr && option->keyword != nullptr;
       ++option) {
    const std::string_view keyword = option->keyword;
    if (!says_something(*option) || keyword == "service" || keyword == "replication") continue;
    if (option->envvar != nullptr) {
      environment.variables.push_back(fmt::format("{}={}", option->envvar, option->val));
    } else {
      environment.service += fmt::format("{}={}\n", keyword, option->val);
    }
  }
  return environment;
}

}  // namespace bitacora::wal
