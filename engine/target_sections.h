// What the receiver's configuration file says of tables that are called or shaped otherwise on the
// standby: [schemas] and [table."schema.table"].
#pragma once

#include "apply/target_rules.h"
#include "engine/config_file.h"

namespace bitacora::engine {

// Reads them into `rules`, which must live until the file is read.
ReadSections target_sections(apply::TargetRules& rules);

}  // namespace bitacora::engine
