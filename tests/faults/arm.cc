// Links into bitacora_faults, which is otherwise bitacora: BITACORA_FAULT=point:count ends the
// process, as kill -9 does, when it reaches that point for the count-th time. With ":hold" behind
// it the thread that gets there stays there instead.
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <string>
#include <string_view>

#include "base/fault_point.h"

namespace bitacora {
namespace {

std::string armed_point;
std::atomic<long> hits_left;
bool holds = false;

void on_point(const char* point) {
  if (std::string_view(point) != armed_point || --hits_left != 0) return;
  while (holds) ::pause();
  ::kill(::getpid(), SIGKILL);
}

const bool armed = [] {
  const char* text = std::getenv("BITACORA_FAULT");
  const std::string_view fault = text != nullptr ? text : "";
  const auto colon = fault.find(':');
  if (colon == std::string_view::npos) return false;
  armed_point = fault.substr(0, colon);
  hits_left = std::atol(fault.data() + colon + 1);
  holds = fault.ends_with(":hold");
  fault_hook = on_point;
  return true;
}();

}  // namespace
}  // namespace bitacora
