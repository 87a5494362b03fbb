// The bytes of COPY ... (FORMAT binary). A row is a tuple as it came over the wire.
// Source: https://www.postgresql.org/docs/current/sql-copy.html ("Binary Format").
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace bitacora::apply {

void begin_copy(std::string& out);
// These columns of the tuple, in this order.
void append_columns(std::string& out, std::string_view tuple,
                    const std::vector<std::size_t>& columns);
void end_copy(std::string& out);

}  // namespace bitacora::apply
