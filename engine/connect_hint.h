// What a person does about a server that cannot be reached or does not let us in.
#pragma once

#include <string>

#include "base/error.h"

namespace bitacora::engine {

// The error with a hint, when it has none yet: by libpq's or the server's words in the message.
// `option` holds the conninfo, for example --master.
Error with_connect_hint(Error error, const std::string& option);

}  // namespace bitacora::engine
