// What kind of conflict a refused row is, and what its policy asks for. Pure. The names are those
// of PostgreSQL 18: https://www.postgresql.org/docs/18/logical-replication-conflicts.html
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "apply/conflict_policy.h"
#include "apply/row_failure.h"
#include "base/lsn.h"
#include "proto/replication.pb.h"

namespace bitacora::apply {

enum class ConflictType {
  kInsertExists,
  kUpdateExists,
  kMultipleUniqueConflicts,
  kUpdateMissing,
  kDeleteMissing,
  kRowRefused,  // no drift: the standby does not take such a row (PostgreSQL has no name for it)
};
const char* name_of(ConflictType type);

// INSERT, UPDATE or DELETE.
const char* operation_name(pb::RowOperation operation);

struct LocalRow {
  std::string table_oid;
  std::string ctid;
  std::string json;

  friend bool operator==(const LocalRow&, const LocalRow&) = default;
};

// How the standby looks to one refused row.
struct Situation {
  std::optional<std::string> key;     // jsonb; empty: its values cannot be read
  std::optional<std::string> remote;  // jsonb
  std::vector<LocalRow> targets;      // rows the change is meant for
  struct Collision {
    std::string index;
    LocalRow row;
  };
  std::vector<Collision> collisions;  // rows under a unique index or exclusion constraint
  std::size_t indexes_violated() const;
  // Rows in the way that are not targets; each once.
  std::vector<LocalRow> obstacles() const;
};

// Whether the standby's rows are the reason, not the row itself.
bool may_be_drift(const RowRefusal& refusal);

// Empty: no conflict for this policy; the row stops the receiver.
std::optional<ConflictType> judge(pb::RowOperation operation, const RowRefusal& refusal,
                                  const Situation& situation, ConflictPolicy policy);

// One row of bitacora.conflicts.
struct Conflict {
  MasterLsn commit_lsn;
  std::int64_t commit_time_usec = 0;  // since 1970; 0: unknown
  std::string schema;
  std::string table;
  pb::RowOperation operation = pb::INSERT;
  ConflictType type = ConflictType::kRowRefused;
  ConflictPolicy policy = ConflictPolicy::kError;
  std::optional<std::string> key;
  std::vector<std::string> local_rows;
  std::optional<std::string> remote_row;
  std::string detail;  // the server's words
};

}  // namespace bitacora::apply
