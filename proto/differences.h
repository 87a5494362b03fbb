// Transaction IDs, positions and times grow little from one transaction to the next, and what is
// little is short: on the wire each is what it differs by from the one before it in the batch,
// which begins from zero. Sums wrap around, so that every number can be told.
#pragma once

#include <cstdint>
#include <utility>

#include "proto/replication.pb.h"

namespace bitacora::proto {

// One batch, in the order of its parts.
class Differences {
 public:
  // From numbers to differences.
  std::int32_t xid_less(std::uint32_t xid) {
    return static_cast<std::int32_t>(xid - std::exchange(xid_, xid));
  }
  std::uint64_t lsn_less(std::uint64_t lsn) { return lsn - std::exchange(lsn_, lsn); }
  std::int64_t time_less(std::int64_t time) {
    const auto bits = static_cast<std::uint64_t>(time);
    return static_cast<std::int64_t>(bits - std::exchange(time_, bits));
  }

  // And back.
  std::int32_t xid_more(std::int32_t difference) {
    return static_cast<std::int32_t>(xid_ += static_cast<std::uint32_t>(difference));
  }
  std::uint64_t lsn_more(std::uint64_t difference) { return lsn_ += difference; }
  std::int64_t time_more(std::int64_t difference) {
    return static_cast<std::int64_t>(time_ += static_cast<std::uint64_t>(difference));
  }

 private:
  std::uint32_t xid_ = 0;
  std::uint64_t lsn_ = 0;
  std::uint64_t time_ = 0;
};

// Which parts have such numbers.
bool has_differences(pb::Part::KindCase kind);
// Of one part, the next of its batch; others are left as they are.
void make_differences(pb::Part& part, Differences& differences);
void undo_differences(pb::Part& part, Differences& differences);

}  // namespace bitacora::proto
