#include "engine/table_name.h"

#include <fmt/format.h>

namespace bitacora::engine {
namespace {

// Takes one part off the front; empty when there is none.
std::string take_part(std::string_view& text) {
  if (!text.starts_with('"')) {
    const auto end = std::min(text.find('.'), text.size());
    std::string part(text.substr(0, end));
    text.remove_prefix(end);
    return part;
  }
  std::string part;
  for (std::size_t i = 1; i < text.size(); ++i) {
    if (text[i] != '"') {
      part += text[i];
    } else if (i + 1 < text.size() && text[i + 1] == '"') {
      part += text[i++];
    } else {
      text.remove_prefix(i + 1);
      return part;
    }
  }
  return {};  // the quote does not end
}

}  // namespace

Result<pb::TableName> parse_table_name(const std::string& text) {
  std::string_view rest = text;
  pb::TableName table;
  table.set_schema(take_part(rest));
  if (rest.starts_with('.')) {
    rest.remove_prefix(1);
    table.set_name(take_part(rest));
  }
  if (!table.schema().empty() && !table.name().empty() && rest.empty()) return table;
  return Error{ErrorCode::kUsage,
               fmt::format("{} is no schema.table", text.empty() ? "\"\"" : text),
               "for example: public.stock, or '\"Odd schema\".\"a.b\"'"};
}

}  // namespace bitacora::engine
