// bitacora drop: removes what a stream left on the master.
#pragma once

#include "base/error.h"
#include "engine/options.h"

namespace bitacora::engine {

// Slot, then publication; what is not there is said and is no error. kMaster while a sender uses
// the slot.
Result<void> run_drop(const DropOptions& options);

}  // namespace bitacora::engine
