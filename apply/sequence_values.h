// The master's sequences' values, given to the standby's sequences of the same names.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "apply/standby_session.h"
#include "base/error.h"
#include "proto/replication.pb.h"

namespace bitacora::apply {

struct SequencesSet {
  std::size_t equal = 0;  // were the master's already
  std::size_t set = 0;
  std::vector<std::string> missing;  // qualified; the standby has no such sequence
  std::vector<std::string> refused;  // qualified; the standby's role may not UPDATE them
};

// A sequence by the column that it goes with; each part is a name as it is.
struct SequenceColumn {
  std::string schema;
  std::string table;
  std::string column;
};

// The sequences of these columns, in their order; empty: there is none.
Result<std::vector<std::optional<pb::TableName>>> sequences_of(
    StandbySession& standby, const std::vector<SequenceColumn>& columns);

// Afterwards each is where the master's was, whatever it was before; what is there already is not
// written. kStandby, also when a value is outside of the bounds that its sequence has here: the
// others are set all the same.
Result<SequencesSet> set_sequences(StandbySession& standby, const pb::SequenceValues& values);

}  // namespace bitacora::apply
