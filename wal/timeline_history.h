// Which timelines a server's WAL consists of. A promoted standby, and a server restored to a point
// in time, begin a new timeline: up to there the WAL is shared, from there on histories differ.
// Source: https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-TIMELINES
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/lsn.h"

namespace bitacora::wal {

struct TimelineHistory {
  struct Left {
    std::uint32_t timeline = 0;
    MasterLsn at;  // its WAL is ours up to here

    friend bool operator==(const Left&, const Left&) = default;
  };

  std::uint32_t timeline = 0;  // the current one
  std::vector<Left> left = {};

  friend bool operator==(const TimelineHistory&, const TimelineHistory&) = default;
};

// `content`: of a history file, as TIMELINE_HISTORY sends it; empty for timeline 1, which has none.
// kMaster when it is not one.
Result<TimelineHistory> parse_timeline_history(std::uint32_t timeline, std::string_view content);

// What the receiver has, everything up to `lsn` of `timeline`, is part of this history. kState
// otherwise, naming the point where the two parted.
Result<void> check_shared(const TimelineHistory& history, const std::string& receiver,
                          std::uint32_t timeline, MasterLsn lsn);

}  // namespace bitacora::wal
