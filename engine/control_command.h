// `bitacora resync`, `bitacora sequences` and `bitacora sender --forget`: what a running process is
// asked to do.
#pragma once

#include <stop_token>

#include "base/error.h"
#include "engine/options.h"

namespace bitacora::engine {

// Of a receiver that runs, returns when the table follows the master again; of one that does not,
// when it is noted on the standby. Errors: the receiver's own, with its exit code; kNetwork,
// nothing answers; kState, it runs after all.
Result<void> run_resync(const ResyncOptions& options, const std::stop_token& stop);

Result<void> run_sequences(const SequencesOptions& options);

// Of a sender that runs, else in its state directory. Errors: the sender's own, with its exit code;
// kNetwork, nothing answers; kState, the receiver is unknown.
Result<void> run_forget(const SenderOptions& options);

}  // namespace bitacora::engine
