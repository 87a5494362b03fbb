// bitacora demo: two throwaway clusters, a pair between them, and the story of the contactos
// database.
#pragma once

#include <stop_token>

#include "base/error.h"

namespace bitacora::engine {

// Prints what it does and sees; leaves nothing behind. Fails when a row does not arrive or differs.
Result<void> run_demo(std::stop_token stop);

}  // namespace bitacora::engine
