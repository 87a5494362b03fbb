// SIGTERM and SIGINT as a stop token, SIGHUP as a request to read the configuration file again.
#pragma once

#include <stop_token>
#include <thread>

#include "engine/reload_requests.h"

namespace bitacora::engine {

enum class HangUp {
  kEnds,     // as everywhere
  kReloads,  // from the first moment on: one that comes early is not lost
};

// Make it first in main(), before any other thread: it blocks the signals in this thread and all it
// starts. A second signal ends the process at once, and so does a stop that takes longer than 4 s
// (a server that does not answer): nothing is lost by that, everything on disk is made for a kill
// at any moment.
class StopSignal {
 public:
  explicit StopSignal(HangUp hang_up);
  ~StopSignal();

  std::stop_token token() const { return source_.get_token(); }
  ReloadRequests& reloads() { return reloads_; }

 private:
  std::stop_source source_;
  ReloadRequests reloads_;
  std::jthread waiter_;
};

}  // namespace bitacora::engine
