#include "tests/engine/small_disk.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "base/descriptor.h"

namespace bitacora::harness {
namespace {

void check(int done, const char* what) {
  if (done != 0) throw std::system_error(errno, std::generic_category(), what);
}

// Once for this thread: what is mounted from then on is nobody else's.
bool have_own_mounts() {
  static const bool own = ::unshare(CLONE_NEWNS) == 0 &&
                          ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
  return own;
}

}  // namespace

bool can_mount() { return ::geteuid() == 0 && have_own_mounts(); }

SmallDisk::SmallDisk(std::filesystem::path directory, std::uint64_t bytes)
    : directory_(std::move(directory)) {
  check(have_own_mounts() ? 0 : -1, "a mount namespace");
  check(::mount("tmpfs", directory_.c_str(), "tmpfs", 0, fmt::format("size={}", bytes).c_str()),
        "a small file system");
}

SmallDisk::~SmallDisk() { ::umount2(directory_.c_str(), MNT_DETACH); }

std::uint64_t SmallDisk::free_bytes() const { return std::filesystem::space(directory_).available; }

void SmallDisk::fill_up() const {
  const Descriptor file(::open(ballast().c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  const std::string bytes(1u << 20, 'b');
  while (::write(file.get(), bytes.data(), bytes.size()) > 0) {
  }
}

void SmallDisk::remove_ballast() const { std::filesystem::remove(ballast()); }

}  // namespace bitacora::harness
