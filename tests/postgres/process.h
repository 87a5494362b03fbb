// The child processes of tests.
#pragma once

#include "engine/child_process.h"

namespace bitacora::harness {

using Process = engine::ChildProcess;
using engine::Finished;
using engine::run;

}  // namespace bitacora::harness
