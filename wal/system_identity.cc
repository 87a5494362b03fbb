#include "wal/system_identity.h"

#include <charconv>
#include <string_view>

#include <fmt/format.h>

#include "wal/master_connection.h"

namespace bitacora::wal {
namespace {

Result<std::string> timeline_history(PGconn* connection, std::uint32_t timeline) {
  const auto command = fmt::format("TIMELINE_HISTORY {}", timeline);
  ASSIGN_OR_RETURN(const auto result, query(connection, command, command));
  return std::string(PQgetvalue(result.get(), 0, 1),
                     static_cast<std::size_t>(PQgetlength(result.get(), 0, 1)));
}

}  // namespace

Result<SystemIdentity> identify_system(PGconn* connection) {
  ASSIGN_OR_RETURN(const auto result, query(connection, "IDENTIFY_SYSTEM", "IDENTIFY_SYSTEM"));
  SystemIdentity identity;
  const auto field = [&](int column) {
    return std::string_view(PQgetvalue(result.get(), 0, column));
  };
  const auto number = [](std::string_view text, auto& value) {
    return std::from_chars(text.data(), text.data() + text.size(), value).ec == std::errc{};
  };
  const auto lsn = parse_lsn(field(2));
  std::uint32_t timeline = 0;
  if (!number(field(0), identity.system_identifier) || !number(field(1), timeline) || !lsn) {
    return Error{ErrorCode::kMaster, "IDENTIFY_SYSTEM answered something unreadable"};
  }
  identity.wal_lsn = MasterLsn{*lsn};
  identity.database = field(3);
  std::string history;
  if (timeline > 1) {
    ASSIGN_OR_RETURN(history, timeline_history(connection, timeline));
  }
  ASSIGN_OR_RETURN(identity.history, parse_timeline_history(timeline, history));
  return identity;
}

}  // namespace bitacora::wal
