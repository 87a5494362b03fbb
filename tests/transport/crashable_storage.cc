#include "tests/transport/crashable_storage.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace bitacora::transport {
namespace {

Error failed(std::string what) {
  return {ErrorCode::kInternal, std::move(what), "it is a test", Recovery::kRetry};
}

void damage_tail(std::string& content, std::size_t lost, std::mt19937_64& random) {
  const std::size_t bytes = lost == 0 ? 0 : random() % (lost + 1);
  switch (random() % 4) {
    case 0:
      content.append(bytes, '\0');  // the length was written, the data was not
      break;
    case 1:
      for (std::size_t i = 0; i < bytes; ++i) content += static_cast<char>(random());
      break;
    default:
      break;
  }
}

}  // namespace

class CrashableFile : public StorageFile {
 public:
  CrashableFile(std::shared_ptr<CrashableDisk> disk, std::size_t index, std::string path)
      : disk_(std::move(disk)), index_(index), path_(std::move(path)) {}

  const std::string& path() const override { return path_; }

  Result<WriteOutcome> append(std::string_view bytes) override {
    if (disk_->used() + bytes.size() > disk_->capacity) {
      ++disk_->quota_refusals;
      return WriteOutcome::kFull;
    }
    content() += bytes;
    disk_->record({CrashableDisk::Kind::kAppend, {}, index_, std::string(bytes)});
    return WriteOutcome::kDone;
  }

  Result<void> truncate(std::uint64_t bytes) override {
    content().resize(bytes);
    disk_->record({CrashableDisk::Kind::kTruncate, {}, index_, {}, bytes});
    return {};
  }

  Result<void> sync() override {
    if (disk_->failing_syncs > 0) {
      --disk_->failing_syncs;
      return failed("cannot sync " + path_ + ": Input/output error");
    }
    disk_->record({CrashableDisk::Kind::kSync, {}, index_});
    return {};
  }

  Result<std::size_t> read_at(std::uint64_t offset, std::span<char> into) const override {
    const auto& from = disk_->contents_[index_];
    if (offset >= from.size()) return std::size_t{0};
    return from.copy(into.data(), into.size(), offset);
  }

  Result<std::uint64_t> size() const override { return disk_->contents_[index_].size(); }

 private:
  std::string& content() { return disk_->contents_[index_]; }

  std::shared_ptr<CrashableDisk> disk_;
  std::size_t index_;
  std::string path_;
};

class CrashableStorage : public Storage {
 public:
  explicit CrashableStorage(std::shared_ptr<CrashableDisk> disk) : disk_(std::move(disk)) {}

  const std::string& path() const override { return path_; }

  Result<std::vector<std::string>> list() const override {
    std::vector<std::string> names;
    for (const auto& [name, file] : disk_->names_) names.push_back(name);
    return names;
  }

  Result<std::shared_ptr<StorageFile>> create(const std::string& name) override {
    if (disk_->names_.contains(name)) return failed(name + " exists");
    const auto index = disk_->contents_.size();
    disk_->contents_.emplace_back();
    disk_->names_[name] = index;
    disk_->record({CrashableDisk::Kind::kCreate, name, index});
    return open(name);
  }

  Result<std::shared_ptr<StorageFile>> open(const std::string& name) override {
    const auto found = disk_->names_.find(name);
    if (found == disk_->names_.end()) return failed(name + " does not exist");
    return std::shared_ptr<StorageFile>(
        std::make_shared<CrashableFile>(disk_, found->second, path_ + "/" + name));
  }

  Result<void> remove(const std::string& name) override {
    if (disk_->names_.erase(name) == 0) return failed(name + " does not exist");
    disk_->record({CrashableDisk::Kind::kRemove, name});
    return {};
  }

  Result<void> sync_directory() override {
    if (disk_->failing_directory_syncs > 0) {
      --disk_->failing_directory_syncs;
      return failed("cannot sync " + path_ + ": Input/output error");
    }
    disk_->record({CrashableDisk::Kind::kSyncDirectory, {}});
    return {};
  }

  Result<std::uint64_t> free_bytes() const override {
    return disk_->capacity - std::min(disk_->capacity, disk_->used());
  }

 private:
  std::shared_ptr<CrashableDisk> disk_;
  std::string path_ = "crashable";
};

// The journal up to the crash, seen by what a sync has made durable and what not.
struct CrashableDisk::Replay {
  using Name = std::optional<std::size_t>;  // the file it stands for, if any

  struct File {
    std::string durable;
    std::vector<const Operation*> later;
  };

  std::vector<File> files;
  std::map<std::string, std::vector<Name>> names;  // the durable state, then each later one

  void apply(const Operation& operation) {
    switch (operation.kind) {
      case Kind::kCreate:
        files.resize(operation.file + 1);
        change(operation.name, operation.file);
        break;
      case Kind::kRemove:
        change(operation.name, std::nullopt);
        break;
      case Kind::kSyncDirectory:
        for (auto& [name, states] : names) states = {states.back()};
        break;
      case Kind::kSync:
        for (const auto* later : files[operation.file].later) {
          write(files[operation.file].durable, *later);
        }
        files[operation.file].later.clear();
        break;
      default:
        files[operation.file].later.push_back(&operation);
    }
  }

  void change(const std::string& name, Name file) {
    auto& states = names[name];
    if (states.empty()) states.push_back(std::nullopt);
    states.push_back(file);
  }

  static void write(std::string& content, const Operation& operation) {
    if (operation.kind == Kind::kAppend) content += operation.bytes;
    if (operation.kind == Kind::kTruncate) content.resize(operation.length);
  }

  static std::string survivor(const File& file, std::mt19937_64& random) {
    std::string content = file.durable;
    const auto done = static_cast<std::size_t>(random() % (file.later.size() + 1));
    for (std::size_t i = 0; i < done; ++i) write(content, *file.later[i]);
    if (done == file.later.size() || file.later[done]->kind != Kind::kAppend) return content;
    const auto& torn = file.later[done]->bytes;
    const auto kept = static_cast<std::size_t>(random() % (torn.size() + 1));
    content += torn.substr(0, kept);
    damage_tail(content, torn.size() - kept, random);
    return content;
  }
};

CrashableDisk::CrashableDisk(DiskImage image) : begin_(std::move(image)) {
  for (const auto& [name, content] : begin_) {
    names_[name] = contents_.size();
    contents_.push_back(content);
  }
}

DiskImage CrashableDisk::crash(std::size_t operations, std::mt19937_64& random) const {
  Replay replay;
  for (const auto& [name, content] : begin_) {
    replay.names[name] = {replay.files.size()};
    replay.files.push_back({content, {}});
  }
  for (std::size_t i = 0; i < operations; ++i) replay.apply(journal_[i]);
  DiskImage image;
  for (const auto& [name, states] : replay.names) {
    const auto file = states[random() % states.size()];
    if (file) image[name] = Replay::survivor(replay.files[*file], random);
  }
  return image;
}

DiskImage CrashableDisk::current() const {
  DiskImage image;
  for (const auto& [name, file] : names_) image[name] = contents_[file];
  return image;
}

std::uint64_t CrashableDisk::used() const {
  std::uint64_t bytes = 0;
  for (const auto& [name, file] : names_) bytes += contents_[file].size();
  return bytes;
}

std::unique_ptr<Storage> open_crashable_storage(std::shared_ptr<CrashableDisk> disk) {
  return std::make_unique<CrashableStorage>(std::move(disk));
}

}  // namespace bitacora::transport
