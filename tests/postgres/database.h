// Ordinary SQL for tests, in one call each. What the server refuses is thrown as pqxx says it.
#pragma once

#include <chrono>
#include <functional>
#include <string>

#include "engine/throwaway_cluster.h"

namespace bitacora::harness {

// One or more statements, as psql -c: outside a transaction block when there is one only.
void execute(const std::string& conninfo, const std::string& sql);

// The first column of the first row as text; "" for NULL. Throws when there is no row.
std::string query_value(const std::string& conninfo, const std::string& sql);

// What the table holds, equal on two servers exactly when the rows are: the rows in their text
// form, sorted, one a line; of a large table their number and a digest. `table` as SQL spells it.
std::string table_content(const std::string& conninfo, const std::string& table);

// Asks every 5 ms; the last answer at the timeout. What `predicate` throws is thrown.
bool eventually(const std::function<bool()>& predicate,
                std::chrono::milliseconds timeout = std::chrono::seconds(20));

// Makes the database, without a trace of an earlier one of that name; answers its conninfo.
std::string fresh_database(const engine::ThrowawayCluster& cluster, const std::string& name);

}  // namespace bitacora::harness
