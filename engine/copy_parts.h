// Into which parts a table is copied, and which of them are missing. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "apply/copied_tables.h"
#include "proto/replication.pb.h"

namespace bitacora::engine {

// Runs of pages of its pieces, each about `bytes_max` of the master's disk at most. The last one of
// a piece has no end: the snapshot's rows may lie on pages that were added since they were counted.
std::vector<apply::CopiedPart> split_into_parts(const pb::CopyTablePlan& plan,
                                                std::uint64_t bytes_max);

// Of `all`, those that are not in `done`. Empty: `done` has parts of another division, so that the
// table has to begin anew.
std::optional<std::vector<apply::CopiedPart>> missing_parts(
    const std::vector<apply::CopiedPart>& all, const std::vector<apply::CopiedPart>& done);

}  // namespace bitacora::engine
