#include "apply/own_tables.h"

#include <fmt/format.h>

namespace bitacora::apply {

Result<bool> own_table_exists(StandbySession& standby, const std::string& name) {
  ASSIGN_OR_RETURN(const auto found,
                   standby.query(fmt::format("cannot look for bitacora.{}", name),
                                 "SELECT to_regclass($1) IS NOT NULL", {"bitacora." + name}));
  return found[0][0] == "t";
}

Result<void> ensure_own_table(StandbySession& standby, const std::string& name,
                              const std::string& definition) {
  ASSIGN_OR_RETURN(const bool exists, own_table_exists(standby, name));
  if (exists) return {};
  const auto doing = fmt::format("cannot create bitacora.{}", name);
  const auto schema = standby.query(
      doing,
      // Not IF NOT EXISTS: that asks for the right to create it even when it is there.
      "DO $$ BEGIN IF to_regnamespace('bitacora') IS NULL THEN CREATE SCHEMA bitacora; END IF; "
      "END $$");
  if (!schema.ok()) {
    Error error = schema.error();
    error.hint =
        "run on the standby as its owner: CREATE SCHEMA bitacora AUTHORIZATION <role of --standby>";
    return error;
  }
  const auto table = standby.query(
      doing, fmt::format("CREATE TABLE IF NOT EXISTS bitacora.{} {}", name, definition));
  if (table.ok()) return {};
  Error error = table.error();
  error.hint =
      "run on the standby as its owner: GRANT CREATE ON SCHEMA bitacora TO <role of --standby>";
  return error;
}

}  // namespace bitacora::apply
