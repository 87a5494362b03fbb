// A file system of a few megabytes, to be filled up. It is seen by this process and its children
// only, and goes with them.
#pragma once

#include <cstdint>
#include <filesystem>

namespace bitacora::harness {

// Mounting needs CAP_SYS_ADMIN.
bool can_mount();

// The children see it that are started by the thread that made it, and after it.
class SmallDisk {
 public:
  // Over an empty directory. Throws std::system_error.
  SmallDisk(std::filesystem::path directory, std::uint64_t bytes);
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;
  ~SmallDisk();  // also when somebody still has files open in it

  std::uint64_t free_bytes() const;
  // A file that takes everything that is left, as somebody else's would.
  void fill_up() const;
  void remove_ballast() const;

 private:
  std::filesystem::path ballast() const { return directory_ / "ballast"; }

  std::filesystem::path directory_;
};

}  // namespace bitacora::harness
