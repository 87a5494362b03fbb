// `bitacora receiver --begin-anew`: forgets all that a receiver knows, for one that cannot go on.
#pragma once

#include "base/error.h"
#include "engine/options.h"

namespace bitacora::engine {

// Removes its rows of bitacora.progress and of what it copied, then spool and checkpoint in
// --data-dir; says so on standard output. The tables keep their rows: the next start is a first
// one, and --truncate empties them. A second call, also after a crash in between, does the rest.
// kState: the receiver runs. kConfiguration, and nothing is forgotten: --data-dir holds something
// else; or this receiver's rows are mingled with others', so that a copy would double them.
Result<void> run_begin_anew(const ReceiverOptions& options);

}  // namespace bitacora::engine
