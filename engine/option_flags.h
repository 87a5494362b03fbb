// The options of the two long commands, as CLI11 is told of them.
#pragma once

#include <string>

#include "engine/options.h"

namespace CLI {
class App;
}

namespace bitacora::engine {

// `config` gets the value of --config. Each answers the command that it added; all arguments must
// live until the command line is parsed.
CLI::App* add_sender(CLI::App& app, SenderOptions& options, std::string& config);
CLI::App* add_receiver(CLI::App& app, ReceiverOptions& options, std::string& config);

// The default name of a receiver.
std::string host_name();

}  // namespace bitacora::engine
