#include "base/file_system.h"

#include <gtest/gtest.h>
#include <linux/magic.h>

namespace bitacora {
namespace {

TEST(FileSystem, NetworkOnesAreToldFromLocalOnes) {
  EXPECT_EQ(network_file_system(NFS_SUPER_MAGIC), "nfs");
  EXPECT_EQ(network_file_system(static_cast<long>(0xFF534D42)), "cifs");
  for (const long local : {EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC, TMPFS_MAGIC})
    EXPECT_FALSE(network_file_system(local));
  EXPECT_FALSE(network_file_system(std::filesystem::path("/proc")));
  EXPECT_FALSE(network_file_system(std::filesystem::path("/no hay")));
}

}  // namespace
}  // namespace bitacora
