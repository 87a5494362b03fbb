// SIGTERM and SIGINT as a stop token.
#pragma once

#include <stop_token>
#include <thread>

namespace bitacora::engine {

// Make it first in main(), before any other thread: it blocks the signals in this thread and all it
// starts. A second signal ends the process at once, and so does a stop that takes longer than 4 s
// (a server that does not answer): nothing is lost by that, everything on disk is made for a kill
// at any moment.
class StopSignal {
 public:
  StopSignal();
  ~StopSignal();

  std::stop_token token() const { return source_.get_token(); }

 private:
  std::stop_source source_;
  std::jthread waiter_;
};

}  // namespace bitacora::engine
