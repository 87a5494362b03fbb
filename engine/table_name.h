// A table's name as a person types it.
#pragma once

#include <string>

#include "base/error.h"
#include "proto/replication.pb.h"

namespace bitacora::engine {

// schema.table, each part in double quotes (doubled inside) or as it is: upper and lower case are
// kept, as in --tables. kUsage when it is anything else.
Result<pb::TableName> parse_table_name(const std::string& text);

}  // namespace bitacora::engine
