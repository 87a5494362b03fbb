#include "wal/system_identity.h"

#include <charconv>
#include <string_view>

#include <fmt/format.h>

#include "wal/master_connection.h"

namespace bitacora::wal {
namespace {

constexpr const char* kIdentify = "IDENTIFY_SYSTEM";

Error unreadable() { return {ErrorCode::kMaster, "IDENTIFY_SYSTEM answered something unreadable"}; }

std::string_view field(const MasterResult& row, int column) {
  return PQgetvalue(row.get(), 0, column);
}

template <class Number>
bool read_number(std::string_view text, Number& value) {
  return std::from_chars(text.data(), text.data() + text.size(), value).ec == std::errc{};
}

Result<std::string> timeline_history(PGconn* connection, std::uint32_t timeline) {
  const auto command = fmt::format("TIMELINE_HISTORY {}", timeline);
  ASSIGN_OR_RETURN(const auto result, query(connection, command, command));
  return std::string(PQgetvalue(result.get(), 0, 1),
                     static_cast<std::size_t>(PQgetlength(result.get(), 0, 1)));
}

}  // namespace

Result<ServerRun> identify_server(PGconn* connection) {
  ASSIGN_OR_RETURN(
      const auto row,
      query(connection,
            "SELECT pg_catalog.pg_postmaster_start_time(), pg_catalog.pg_is_in_recovery()",
            "cannot ask which server this is"));
  return ServerRun{std::string(field(row, 0)), field(row, 1) == "t"};
}

// Whether it is a standby comes first: one that is promoted in between is watched for nothing, the
// other way round its new timeline would be missed.
Result<SystemIdentity> identify_system(PGconn* connection) {
  SystemIdentity identity;
  ASSIGN_OR_RETURN(identity.server, identify_server(connection));
  ASSIGN_OR_RETURN(const auto row, query(connection, kIdentify, kIdentify));
  const auto lsn = parse_lsn(field(row, 2));
  std::uint32_t timeline = 0;
  if (!read_number(field(row, 0), identity.system_identifier) ||
      !read_number(field(row, 1), timeline) || !lsn)
    return unreadable();
  identity.wal_lsn = MasterLsn{*lsn};
  identity.database = field(row, 3);
  std::string history;
  if (timeline > 1) {
    ASSIGN_OR_RETURN(history, timeline_history(connection, timeline));
  }
  ASSIGN_OR_RETURN(identity.history, parse_timeline_history(timeline, history));
  return identity;
}

Result<std::uint32_t> current_timeline(PGconn* connection) {
  ASSIGN_OR_RETURN(const auto row, query(connection, kIdentify, kIdentify));
  std::uint32_t timeline = 0;
  if (!read_number(field(row, 1), timeline)) return unreadable();
  return timeline;
}

}  // namespace bitacora::wal
