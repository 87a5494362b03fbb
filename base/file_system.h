// What kind of file system a directory lies on.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

namespace bitacora {

// The name of a network file system by its magic number in statfs(2); empty: it is none, or
// unknown.
std::optional<std::string> network_file_system(long type);

// The same for a directory. Empty also when it cannot be asked.
std::optional<std::string> network_file_system(const std::filesystem::path& directory);

}  // namespace bitacora
