#include "base/file_system.h"

#include <linux/magic.h>
#include <sys/vfs.h>

#include <array>
#include <cstdint>
#include <utility>

namespace bitacora {
namespace {

// CIFS and CEPH are not in linux/magic.h of every kernel.
constexpr std::array<std::pair<unsigned long, const char*>, 8> kNetworkFileSystems = {{
    {NFS_SUPER_MAGIC, "nfs"},
    {SMB_SUPER_MAGIC, "smb"},
    {0xFE534D42, "smb2"},
    {0xFF534D42, "cifs"},
    {0x00C36400, "ceph"},
    {AFS_SUPER_MAGIC, "afs"},
    {CODA_SUPER_MAGIC, "coda"},
    {V9FS_MAGIC, "9p"},
}};

}  // namespace

std::optional<std::string> network_file_system(long type) {
  for (const auto& [magic, name] : kNetworkFileSystems) {
    if (static_cast<std::uint32_t>(type) == magic) return name;
  }
  return std::nullopt;
}

std::optional<std::string> network_file_system(const std::filesystem::path& directory) {
  struct statfs status = {};
  if (::statfs(directory.c_str(), &status) != 0) return std::nullopt;
  return network_file_system(static_cast<long>(status.f_type));
}

}  // namespace bitacora
