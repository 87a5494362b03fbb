// The tables of schema.h as subjects of a history. Pure; for moves.h only.
#pragma once

#include <string>
#include <vector>

#include "tests/equivalence/moves.h"

namespace bitacora::equivalence {

std::vector<Subject> make_subjects();

std::vector<KeyedTable> keyed_tables();

// SQL for the tables and columns that keyed_tables() leaves empty.
std::vector<std::string> populated_by_hand();

}  // namespace bitacora::equivalence
