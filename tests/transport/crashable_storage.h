// A directory in memory that records every operation, so that it can be seen as a crash at any
// moment may have left it: what was synced, and of what came later whatever the system wrote.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "transport/storage.h"

namespace bitacora::transport {

// File name → content.
using DiskImage = std::map<std::string, std::string>;

// Shared by the storage and the test that looks at it. One thread.
class CrashableDisk {
 public:
  explicit CrashableDisk(DiskImage image = {});

  std::size_t operations() const { return journal_.size(); }

  // As a crash behind the first `operations` may have left it. Of each file: what was synced, then
  // some of what was written later, the last of it in part and perhaps followed by zeros or
  // garbage. Names: those of the last sync_directory(), each with any number of its later changes.
  DiskImage crash(std::size_t operations, std::mt19937_64& random) const;

  // As the running system sees it.
  DiskImage current() const;

  std::uint64_t capacity = UINT64_MAX;  // of all files; then the disk is full
  int failing_directory_syncs = 0;
  int failing_syncs = 0;             // so many file syncs fail from now on
  std::uint64_t quota_refusals = 0;  // how often it was full

 private:
  friend class CrashableFile;
  friend class CrashableStorage;

  enum class Kind { kCreate, kRemove, kSyncDirectory, kAppend, kTruncate, kSync };
  struct Operation {
    Kind kind;
    std::string name;          // kCreate, kRemove
    std::size_t file = 0;      // index of the file
    std::string bytes = {};    // kAppend
    std::uint64_t length = 0;  // kTruncate
  };
  struct Replay;

  void record(Operation operation) { journal_.push_back(std::move(operation)); }
  std::uint64_t used() const;

  DiskImage begin_;                           // durable before the first operation
  std::vector<std::string> contents_;         // of every file there ever was, by index
  std::map<std::string, std::size_t> names_;  // name → index of its file
  std::vector<Operation> journal_;
};

std::unique_ptr<Storage> open_crashable_storage(std::shared_ptr<CrashableDisk> disk);

}  // namespace bitacora::transport
