// A directory of the local file system.
#pragma once

#include <filesystem>
#include <memory>

#include "transport/storage.h"

namespace bitacora::transport {

// Creates the directory when it is absent; the new name itself is made durable too.
Result<std::unique_ptr<Storage>> open_posix_storage(const std::filesystem::path& directory);

}  // namespace bitacora::transport
