#include "wal/timeline_history.h"

#include <sstream>

#include <fmt/format.h>

namespace bitacora::wal {

namespace {

constexpr const char* kBeginAnew =
    "find out which of the two is right; to follow this master make the tables equal again and "
    "begin this receiver anew";

}  // namespace

// Lines of: timeline, tab, LSN, tab, reason. Empty lines and comments are allowed.
Result<TimelineHistory> parse_timeline_history(std::uint32_t timeline, std::string_view content) {
  TimelineHistory history{timeline};
  std::istringstream lines{std::string(content)};
  for (std::string line; std::getline(lines, line);) {
    std::istringstream fields(line);
    std::string first;
    if (!(fields >> first) || first.front() == '#') continue;
    std::istringstream number(first);
    std::uint32_t left = 0;
    std::string at;
    const bool readable = number >> left && number.eof() && fields >> at;
    const auto lsn = readable ? parse_lsn(at) : std::nullopt;
    if (!lsn) {
      return Error{
          ErrorCode::kMaster,
          fmt::format("the history of timeline {} has an unreadable line: {}", timeline, line),
          "put the right history file into the master's pg_wal"};
    }
    history.left.push_back({left, MasterLsn{*lsn}});
  }
  return history;
}

Result<void> check_shared(const TimelineHistory& history, const std::string& receiver,
                          std::uint32_t timeline, MasterLsn lsn) {
  if (timeline == history.timeline) return {};
  for (const auto& left : history.left) {
    if (left.timeline != timeline) continue;
    if (lsn <= left.at) return {};
    return Error{
        ErrorCode::kState,
        fmt::format("receiver {} has changes up to {} of timeline {}, which this master "
                    "left at {} for its timeline {}: their histories differ",
                    receiver, to_string(lsn), timeline, to_string(left.at), history.timeline),
        kBeginAnew};
  }
  return Error{ErrorCode::kState,
               fmt::format("receiver {} has changes up to {} of timeline {}, which is no part of "
                           "this master's timeline {}",
                           receiver, to_string(lsn), timeline, history.timeline),
               kBeginAnew};
}

}  // namespace bitacora::wal
