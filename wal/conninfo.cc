#include "wal/conninfo.h"

#include <libpq-fe.h>

#include <memory>
#include <string_view>

#include <fmt/format.h>

namespace bitacora::wal {

Result<Conninfo> parse_conninfo(const std::string& text, const std::string& option) {
  char* reason = nullptr;
  const std::unique_ptr<PQconninfoOption, void (*)(PQconninfoOption*)> options(
      PQconninfoParse(text.c_str(), &reason), PQconninfoFree);
  const std::unique_ptr<char, void (*)(void*)> owned_reason(reason, PQfreemem);
  if (!options) {
    return Error{
        ErrorCode::kConfiguration,
        fmt::format("{} is not a conninfo string: {}", option, reason != nullptr ? reason : ""),
        "write it as for psql, for example \"host=db1 dbname=shop user=bitacora\""};
  }
  Conninfo parsed;
  for (const auto* entry = options.get(); entry->keyword != nullptr; ++entry) {
    if (entry->val == nullptr) continue;
    const std::string_view keyword = entry->keyword;
    if (keyword == "password") parsed.password = entry->val;
    if (keyword == "host" || keyword == "port" || keyword == "dbname" || keyword == "user") {
      parsed.shown += fmt::format("{}{}={}", parsed.shown.empty() ? "" : " ", keyword, entry->val);
    }
  }
  return parsed;
}

}  // namespace bitacora::wal
