// The schema that a first copy makes on the standby, from pg_dump's entries: what comes before the
// data at once, what comes after it noted in bitacora.schema_steps and done step by step.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "apply/standby_session.h"
#include "base/error.h"
#include "proto/replication.pb.h"

namespace bitacora::apply {

// In one transaction: every entry before the data, and a row for each one after it. What is there
// already is kept; the names of such entries are answered. Errors, kStandby, name the entry and the
// server's words; nothing was made then.
Result<std::vector<std::string>> begin_schema(StandbySession& standby,
                                              const std::string& subscription,
                                              const pb::DumpedSchema& schema);

struct SchemaStep {
  std::int64_t number = 0;
  std::string type;
  std::string name;  // schema.name
  std::string sql;
  bool builds = false;  // an index, alone or under a constraint: others may be built meanwhile
};

// What is left to do, in pg_dump's order.
Result<std::vector<SchemaStep>> load_schema_steps(StandbySession& standby,
                                                  const std::string& subscription);

// Does the steps, each in a transaction with the removal of its row: those that build, as many at a
// time as there are sessions, then the others in order. `on_done` is called from several threads.
// Stops at the first error, which names the step.
Result<void> do_schema_steps(std::span<StandbySession> sessions, const std::string& subscription,
                             const std::vector<SchemaStep>& steps,
                             const std::function<void(const SchemaStep&)>& on_done,
                             const std::stop_token& stop);

}  // namespace bitacora::apply
