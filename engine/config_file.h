// The TOML file behind --config: the long options' names as keys, what the command line already
// said wins.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/error.h"

namespace CLI {
class App;
}

namespace bitacora::engine {

class ConfigSection;

// What no option says: tables of the file by name, [receivers.NAME] under `receivers`.
using ReadSections = std::map<std::string, std::function<Result<void>(const ConfigSection&)>>;

// kConfiguration: unreadable, not TOML, an unknown key (with the nearest known one), a value of the
// wrong kind.
Result<void> apply_config_file(CLI::App& command, const std::string& path,
                               const ReadSections& sections = {});

// The nearest of `known` to `word` by edit distance, when it is near enough to be meant; else
// empty.
std::string nearest(const std::string& word, const std::vector<std::string>& known);

}  // namespace bitacora::engine
