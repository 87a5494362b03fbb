#include "apply/copy_format.h"

#include <cstdint>

#include "apply/net_changes.h"
#include "base/bytes.h"

namespace bitacora::apply {
namespace {

using std::string_view_literals::operator""sv;

constexpr auto kHeader = "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\0"sv;  // signature, flags, extension
constexpr std::int16_t kTrailer = -1;

}  // namespace

void begin_copy(std::string& out) { out += kHeader; }

void append_columns(std::string& out, std::string_view tuple,
                    const std::vector<std::size_t>& columns) {
  const auto fields = tuple_fields(tuple);
  append_big_endian(out, static_cast<std::int16_t>(columns.size()));
  for (const auto column : columns) out += fields[column];
}

void end_copy(std::string& out) { append_big_endian(out, kTrailer); }

}  // namespace bitacora::apply
