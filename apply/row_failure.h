// The error for a row that the standby did not take: which table, which row, what to do.
#pragma once

#include <libpq-fe.h>

#include <cstdint>
#include <string>

#include "apply/table_map.h"
#include "base/error.h"
#include "proto/replication.pb.h"

namespace bitacora::apply {

// Where in a batch a row stands; both outlive the error's making.
struct RowOrigin {
  const MappedTable* table = nullptr;
  const pb::Rows* block = nullptr;
  std::uint32_t index = 0;
};

// What the standby said of a statement that did not do what it was for.
struct RowRefusal {
  bool succeeded = false;  // it touched another number of rows than one
  std::string touched;     // rows, of a success
  std::string sqlstate;
  std::string message;
  std::string detail;
  std::string schema;  // of the constraint
  std::string constraint;
};
RowRefusal read_refusal(const PGresult* reply);

// (id, region)=(7, eu), rendered on a connection of its own.
std::string row_name(const RowOrigin& origin, const std::string& conninfo);

// `reply` is the server's error, or a success that touched another number of rows than one (drift:
// somebody else changed the standby). `conninfo`: a connection of its own renders the row's key,
// ours is in a failed pipeline.
Error row_failure(const RowOrigin& row, const PGresult* reply, const std::string& conninfo);
Error row_failure(const RowOrigin& row, const RowRefusal& refusal, const std::string& conninfo);

}  // namespace bitacora::apply
