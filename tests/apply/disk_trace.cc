#include "tests/apply/disk_trace.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstdio>
#include <utility>

namespace bitacora::apply {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kSectorBytes = 512;

DiskTrace* tracing = nullptr;

void place(std::string& content, std::uint64_t offset, std::string_view bytes) {
  if (content.size() < offset + bytes.size()) content.resize(offset + bytes.size(), '\0');
  content.replace(offset, bytes.size(), bytes);
}

}  // namespace

// One file: what is durable, and what was done since.
struct DiskTrace::File {
  std::string durable;
  std::vector<const Operation*> later;

  static void apply(std::string& content, const Operation& operation) {
    if (operation.kind == Kind::kTruncate) content.resize(operation.offset, '\0');
    if (operation.kind == Kind::kWrite) place(content, operation.offset, operation.bytes);
  }

  void sync() {
    for (const auto* operation : later) apply(durable, *operation);
    later.clear();
  }

  void sync_last() {
    apply(durable, *later.back());
    later.pop_back();
  }

  // Every sector by itself; the file may have grown all the same.
  static void tear(std::string& content, const Operation& write, std::mt19937_64& random) {
    const std::string_view bytes = write.bytes;
    for (std::uint64_t from = 0; from < bytes.size();) {
      const auto to = std::min(
          bytes.size(), ((write.offset + from) / kSectorBytes + 1) * kSectorBytes - write.offset);
      if (random() % 2 == 0) place(content, write.offset + from, bytes.substr(from, to - from));
      from = to;
    }
    if (random() % 2 == 0) place(content, write.offset + bytes.size(), {});
  }

  std::string survivor(std::mt19937_64& random) const {
    std::string content = durable;
    const auto way = random() % 4;  // all, a prefix, some, torn ones
    const auto prefix = way == 1 ? random() % (later.size() + 1) : later.size();
    for (std::size_t i = 0; i < prefix; ++i) {
      if (way >= 2 && random() % 3 == 0) continue;
      if (way == 3 && later[i]->kind == Kind::kWrite) {
        tear(content, *later[i], random);
      } else {
        apply(content, *later[i]);
      }
    }
    return content;
  }
};

struct DiskTrace::Replay {
  using Names = std::map<std::string, ino_t>;

  std::map<ino_t, File> files;
  std::vector<Names> names;  // the durable ones, then after each change

  void apply(const Operation& operation) {
    Names changed = names.back();
    switch (operation.kind) {
      case Kind::kSync:
        return files[operation.file].sync();
      case Kind::kSyncLastWrite:
        return files[operation.file].sync_last();
      case Kind::kSyncNames:
        names = {names.back()};
        return;
      case Kind::kWrite:
      case Kind::kTruncate:
        files[operation.file].later.push_back(&operation);
        return;
      case Kind::kCreate:
        changed[operation.name] = operation.file;
        break;
      case Kind::kRename:
        changed[operation.new_name] = changed[operation.name];
        changed.erase(operation.name);
        break;
      case Kind::kRemove:
        changed.erase(operation.name);
        break;
    }
    names.push_back(std::move(changed));
  }
};

DiskTrace::DiskTrace(fs::path directory, const DiskImage& found)
    : directory_(std::move(directory)) {
  for (const auto& [name, content] : found) {
    struct stat status = {};
    if (::stat((directory_ / name).c_str(), &status) != 0) continue;
    found_[status.st_ino] = content;
    found_names_[name] = status.st_ino;
    known_[status.st_ino] = true;
  }
  tracing = this;
}

DiskTrace::~DiskTrace() { tracing = nullptr; }

DiskImage DiskTrace::crash(std::size_t operations, std::mt19937_64& random) const {
  Replay replay;
  for (const auto& [file, content] : found_) replay.files[file].durable = content;
  replay.names.push_back(found_names_);
  for (std::size_t i = 0; i < operations; ++i) replay.apply(operations_[i]);
  DiskImage image;
  for (const auto& [name, file] : replay.names[random() % replay.names.size()])
    image[name] = replay.files[file].survivor(random);
  return image;
}

bool DiskTrace::is_inside(const fs::path& path) const {
  // The lock file is of no use after a crash: whoever opens LMDB alone makes it anew.
  return path.parent_path() == directory_ && path.filename() != "lock.mdb";
}

fs::path DiskTrace::path_of(int descriptor) const {
  char target[PATH_MAX];
  const auto link = "/proc/self/fd/" + std::to_string(descriptor);
  const auto length = ::readlink(link.c_str(), target, sizeof target);
  return length < 0 ? "" : std::string(target, static_cast<std::size_t>(length));
}

// A file gets its name when it is first seen: before that it is empty.
ino_t DiskTrace::file_of(int descriptor, const std::string& name) {
  struct stat status = {};
  ::fstat(descriptor, &status);
  if (!std::exchange(known_[status.st_ino], true))
    record({Kind::kCreate, status.st_ino, 0, {}, name, {}});
  return status.st_ino;
}

bool DiskTrace::on_write(int descriptor, std::string_view bytes, std::uint64_t offset) {
  const auto path = path_of(descriptor);
  if (!is_inside(path)) return false;
  const auto file = file_of(descriptor, path.filename());
  record({Kind::kWrite, file, offset, std::string(bytes), {}, {}});
  if ((::fcntl(descriptor, F_GETFL) & O_DSYNC) != 0)
    record({Kind::kSyncLastWrite, file, 0, {}, {}, {}});
  return true;
}

bool DiskTrace::on_truncate(int descriptor, std::uint64_t length) {
  const auto path = path_of(descriptor);
  if (!is_inside(path)) return false;
  record({Kind::kTruncate, file_of(descriptor, path.filename()), length, {}, {}, {}});
  return true;
}

bool DiskTrace::on_sync(int descriptor) {
  const auto path = path_of(descriptor);
  if (path == directory_) {
    record({Kind::kSyncNames, 0, 0, {}, {}, {}});
    return true;
  }
  if (!is_inside(path)) return false;
  record({Kind::kSync, file_of(descriptor, path.filename()), 0, {}, {}, {}});
  return true;
}

void DiskTrace::on_rename(const std::string& from, const std::string& to) {
  if (is_inside(from))
    record({Kind::kRename, 0, 0, {}, fs::path(from).filename(), fs::path(to).filename()});
}

void DiskTrace::on_remove(const std::string& path) {
  struct stat status = {};
  if (!is_inside(path) || ::stat(path.c_str(), &status) != 0) return;
  known_.erase(status.st_ino);
  record({Kind::kRemove, status.st_ino, 0, {}, fs::path(path).filename(), {}});
}

}  // namespace bitacora::apply

// Of the C library, by the same names: the program's own come first for every library in it.
using bitacora::apply::tracing;

extern "C" {

ssize_t pwrite(int descriptor, const void* bytes, size_t size, off_t offset) {
  const auto written = ::syscall(SYS_pwrite64, descriptor, bytes, size, offset);
  if (tracing != nullptr && written > 0) {
    tracing->on_write(descriptor,
                      {static_cast<const char*>(bytes), static_cast<std::size_t>(written)},
                      static_cast<std::uint64_t>(offset));
  }
  return written;
}

ssize_t write(int descriptor, const void* bytes, size_t size) {
  const auto at = tracing != nullptr ? ::lseek(descriptor, 0, SEEK_CUR) : 0;
  const auto written = ::syscall(SYS_write, descriptor, bytes, size);
  if (tracing != nullptr && written > 0 && at >= 0) {
    tracing->on_write(descriptor,
                      {static_cast<const char*>(bytes), static_cast<std::size_t>(written)},
                      static_cast<std::uint64_t>(at));
  }
  return written;
}

ssize_t writev(int descriptor, const iovec* parts, int count) {
  const auto at = tracing != nullptr ? ::lseek(descriptor, 0, SEEK_CUR) : 0;
  const auto written = ::syscall(SYS_writev, descriptor, parts, count);
  if (tracing != nullptr && written > 0 && at >= 0) {
    std::string bytes;
    for (int i = 0; i < count; ++i)
      bytes.append(static_cast<const char*>(parts[i].iov_base), parts[i].iov_len);
    bytes.resize(static_cast<std::size_t>(written));
    tracing->on_write(descriptor, bytes, static_cast<std::uint64_t>(at));
  }
  return written;
}

int ftruncate(int descriptor, off_t length) noexcept {
  const auto done = static_cast<int>(::syscall(SYS_ftruncate, descriptor, length));
  if (tracing != nullptr && done == 0)
    tracing->on_truncate(descriptor, static_cast<std::uint64_t>(length));
  return done;
}

int fsync(int descriptor) {
  if (tracing != nullptr && tracing->on_sync(descriptor)) return 0;
  return static_cast<int>(::syscall(SYS_fsync, descriptor));
}

int fdatasync(int descriptor) {
  if (tracing != nullptr && tracing->on_sync(descriptor)) return 0;
  return static_cast<int>(::syscall(SYS_fdatasync, descriptor));
}

int rename(const char* from, const char* to) noexcept {
  const auto done = static_cast<int>(::syscall(SYS_rename, from, to));
  if (tracing != nullptr && done == 0) tracing->on_rename(from, to);
  return done;
}

int unlink(const char* path) noexcept {
  if (tracing != nullptr) tracing->on_remove(path);
  return static_cast<int>(::syscall(SYS_unlink, path));
}

int remove(const char* path) noexcept {
  struct stat status = {};
  if (::stat(path, &status) == 0 && S_ISDIR(status.st_mode)) return ::rmdir(path);
  return ::unlink(path);
}
}
