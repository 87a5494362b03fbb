// The sections [table."shop.orders"] of the sender's configuration file: columns and rows of
// tables.
#pragma once

#include <vector>

#include "base/error.h"
#include "wal/publication_rule.h"

namespace bitacora::engine {

class ConfigSection;

// `table` is the section above all of them. kConfiguration: an unknown key, a value of the wrong
// kind, a section that says nothing, a pattern that is none.
Result<std::vector<wal::PublicationRule>> read_publication_sections(const ConfigSection& table);

}  // namespace bitacora::engine
