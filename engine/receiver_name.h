// What a receiver may be called: the name is in the sender's state, in logs, in SQL and in
// arguments.
#pragma once

#include <string>

#include "base/error.h"

namespace bitacora::engine {

// kConfiguration: empty, longer than 128 bytes, a control character or a quote in it.
Result<void> check_receiver_name(const std::string& name);

}  // namespace bitacora::engine
