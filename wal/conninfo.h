// What a conninfo string says, without connecting.
#pragma once

#include <string>

#include "base/error.h"

namespace bitacora::wal {

struct Conninfo {
  std::string password;  // empty when the string holds none
  std::string shown;     // host, port, dbname and user: what may be printed
};

// kConfiguration, with libpq's words, when it does not parse. `option` names it in the message.
Result<Conninfo> parse_conninfo(const std::string& text, const std::string& option);

}  // namespace bitacora::wal
