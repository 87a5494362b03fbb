// The schema that a first copy makes on the standby, from pg_dump's entries: what comes before the
// data at once, what comes after it noted in bitacora.schema_steps and done step by step.
#pragma once

#include <chrono>
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

// In one transaction: every entry before the data, and a row for each one after it, behind those
// that are left from before. What is there already is kept; the names of such entries are answered.
// Errors, kStandby, name the entry and the server's words; nothing was made then.
Result<std::vector<std::string>> begin_schema(StandbySession& standby,
                                              const std::string& subscription,
                                              const pb::DumpedSchema& schema);

struct SchemaStep {
  std::int64_t number = 0;
  std::string type;
  std::string name;  // schema.name
  std::string sql;
  bool builds = false;  // an index, alone or under a constraint: others may be built meanwhile
  std::string table;    // that it changes, as SQL; empty where the SQL does not begin with it
};

// What is left to do, in pg_dump's order.
Result<std::vector<SchemaStep>> load_schema_steps(StandbySession& standby,
                                                  const std::string& subscription);

// Makes bitacora.schema_steps when it is absent. Not by several connections at the same time.
Result<void> ensure_schema_steps(StandbySession& standby);

// One more, after all others: the standby's statistics of a copied table, `target` as SQL.
// `relation` tells it from those of other tables. A table that is not the role's own is left out by
// the server.
Result<void> add_analyze_step(StandbySession& standby, const std::string& subscription,
                              std::uint32_t relation, const std::string& name,
                              const std::string& target);

using OnStepDone =
    std::function<void(const SchemaStep& step, std::chrono::steady_clock::duration took)>;

// Does the steps, each in a transaction with the removal of its row: those that build, as many at a
// time as there are sessions and the largest tables first, then the others in order. `on_done` is
// called from several threads. Stops at the first error, which names the step: what the other
// sessions do is cancelled, and is done again the next time. After `stop` the error heals.
Result<void> do_schema_steps(std::span<StandbySession> sessions, const std::string& subscription,
                             const std::vector<SchemaStep>& steps, const OnStepDone& on_done,
                             const std::stop_token& stop);

}  // namespace bitacora::apply
