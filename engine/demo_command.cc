#include "engine/demo_command.h"
namespace bitacora::engine {
Result<void> run_demo(const DemoOptions&, std::stop_token) { return {}; }
}  // namespace bitacora::engine
