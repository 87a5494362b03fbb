// Our own tables on the standby, in the schema bitacora.
#pragma once

#include <string>

#include "apply/standby_session.h"
#include "base/error.h"

namespace bitacora::apply {

// `name` without the schema.
Result<bool> own_table_exists(StandbySession& standby, const std::string& name);

// Makes the table where it is missing, and the schema before it. `definition` is what follows the
// name in CREATE TABLE. Asks for no right to create what is there already.
Result<void> ensure_own_table(StandbySession& standby, const std::string& name,
                              const std::string& definition);

}  // namespace bitacora::apply
