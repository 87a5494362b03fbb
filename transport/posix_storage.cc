#include "transport/posix_storage.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "base/descriptor.h"

namespace bitacora::transport {
namespace {

namespace fs = std::filesystem;

Error failed(std::string_view doing, const std::string& path, int code) {
  return {ErrorCode::kInternal, fmt::format("cannot {} {}: {}", doing, path, std::strerror(code)),
          "check the disk and the rights of the spool's directory", Recovery::kRetry};
}

bool is_full(int code) { return code == ENOSPC || code == EDQUOT; }

template <class Call>
auto retry_interrupted(Call call) {
  decltype(call()) result;
  do {
    result = call();
  } while (result < 0 && errno == EINTR);
  return result;
}

class PosixFile : public StorageFile {
 public:
  PosixFile(std::string path, Descriptor descriptor, std::uint64_t bytes)
      : path_(std::move(path)), descriptor_(std::move(descriptor)), bytes_(bytes) {}

  const std::string& path() const override { return path_; }

  Result<WriteOutcome> append(std::string_view bytes) override {
    std::uint64_t end = bytes_;
    while (!bytes.empty()) {
      const auto written = retry_interrupted([&] {
        return ::pwrite(descriptor_.get(), bytes.data(), bytes.size(), static_cast<off_t>(end));
      });
      if (written < 0) {
        const int code = errno;
        RETURN_IF_ERROR(truncate(bytes_));
        if (is_full(code)) return WriteOutcome::kFull;
        return failed("write", path_, code);
      }
      bytes.remove_prefix(static_cast<std::size_t>(written));
      end += static_cast<std::uint64_t>(written);
    }
    bytes_ = end;
    return WriteOutcome::kDone;
  }

  Result<void> truncate(std::uint64_t bytes) override {
    const auto length = static_cast<off_t>(bytes);
    if (retry_interrupted([&] { return ::ftruncate(descriptor_.get(), length); }) != 0) {
      return failed("truncate", path_, errno);
    }
    bytes_ = bytes;
    return {};
  }

  Result<void> sync() override {
    if (::fdatasync(descriptor_.get()) != 0) return failed("sync", path_, errno);
    return {};
  }

  Result<std::size_t> read_at(std::uint64_t offset, std::span<char> into) const override {
    std::size_t filled = 0;
    while (filled < into.size()) {
      const auto read = retry_interrupted([&] {
        return ::pread(descriptor_.get(), into.data() + filled, into.size() - filled,
                       static_cast<off_t>(offset + filled));
      });
      if (read < 0) return failed("read", path_, errno);
      if (read == 0) break;
      filled += static_cast<std::size_t>(read);
    }
    return filled;
  }

  Result<std::uint64_t> size() const override { return bytes_.load(); }

 private:
  std::string path_;
  Descriptor descriptor_;
  std::atomic<std::uint64_t> bytes_;
};

class PosixStorage : public Storage {
 public:
  PosixStorage(fs::path directory, Descriptor descriptor)
      : directory_(std::move(directory)),
        path_(directory_.string()),
        descriptor_(std::move(descriptor)) {}

  const std::string& path() const override { return path_; }

  Result<std::vector<std::string>> list() const override {
    std::vector<std::string> names;
    std::error_code code;
    for (auto at = fs::directory_iterator(directory_, code); !code && at != fs::end(at);
         at.increment(code)) {
      names.push_back(at->path().filename().string());
    }
    if (code) return failed("list", path_, code.value());
    return names;
  }

  Result<std::shared_ptr<StorageFile>> create(const std::string& name) override {
    Descriptor file(
        ::openat(descriptor_.get(), name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    const auto path = path_of(name);
    if (file.valid()) return std::shared_ptr<StorageFile>(new PosixFile(path, std::move(file), 0));
    if (is_full(errno)) return std::shared_ptr<StorageFile>();
    return failed("create", path, errno);
  }

  Result<std::shared_ptr<StorageFile>> open(const std::string& name) override {
    Descriptor file(::openat(descriptor_.get(), name.c_str(), O_RDWR | O_CLOEXEC));
    const auto path = path_of(name);
    struct stat status = {};
    if (!file.valid() || ::fstat(file.get(), &status) != 0) return failed("open", path, errno);
    const auto bytes = static_cast<std::uint64_t>(status.st_size);
    return std::shared_ptr<StorageFile>(new PosixFile(path, std::move(file), bytes));
  }

  Result<void> remove(const std::string& name) override {
    if (::unlinkat(descriptor_.get(), name.c_str(), 0) != 0) {
      return failed("remove", path_of(name), errno);
    }
    return {};
  }

  Result<void> sync_directory() override {
    if (::fsync(descriptor_.get()) != 0) return failed("sync", path_, errno);
    return {};
  }

  Result<std::uint64_t> free_bytes() const override {
    struct statvfs status = {};
    if (::fstatvfs(descriptor_.get(), &status) != 0) return failed("look at", path_, errno);
    return std::uint64_t{status.f_bavail} * status.f_frsize;
  }

 private:
  std::string path_of(const std::string& name) const { return (directory_ / name).string(); }

  fs::path directory_;
  std::string path_;
  Descriptor descriptor_;
};

Result<Descriptor> open_directory(const fs::path& directory) {
  Descriptor descriptor(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!descriptor.valid()) return failed("open", directory.string(), errno);
  return descriptor;
}

}  // namespace

Result<std::unique_ptr<Storage>> open_posix_storage(const fs::path& directory) {
  if (::mkdir(directory.c_str(), 0700) == 0) {
    ASSIGN_OR_RETURN(const auto parent, open_directory(fs::absolute(directory).parent_path()));
    if (::fsync(parent.get()) != 0) return failed("sync", directory.string(), errno);
  } else if (errno != EEXIST) {
    return failed("create", directory.string(), errno);
  }
  ASSIGN_OR_RETURN(auto descriptor, open_directory(directory));
  return std::unique_ptr<Storage>(new PosixStorage(directory, std::move(descriptor)));
}

}  // namespace bitacora::transport
