// The child processes of tests and benchmarks.
#pragma once

#include <sys/types.h>

#include <cstddef>

#include "engine/child_process.h"

namespace bitacora::harness {

using Process = engine::ChildProcess;
using engine::Finished;
using engine::run;

// SIGTERM or SIGHUP, to a process that handles it: one that has just been started does not do so
// yet, and would be ended by it. Throws when it does not within 20 s.
void send_signal(Process& process, int number);

// The most the process ever had resident (VmHWM). 0: it has ended.
std::size_t peak_resident_bytes(pid_t pid);

}  // namespace bitacora::harness
