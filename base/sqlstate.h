// What an SQLSTATE means for the caller. Source: appendix A of PostgreSQL's documentation.
#pragma once

#include <string_view>

#include "base/error.h"

namespace bitacora {

// kRetry for what heals by itself: connection failures (class 08), a server that stops or starts
// (57P01 to 57P03), too many connections (53300), an object in use (55006), serialization failures
// and deadlocks (class 40), lock timeouts (55P03), a full disk (53100), no memory (53200), no
// SQLSTATE at all (the connection itself was lost). Everything else is kStop.
Recovery recovery_for_sqlstate(std::string_view sqlstate);

}  // namespace bitacora
