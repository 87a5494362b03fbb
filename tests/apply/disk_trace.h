// What this process does to the files of one directory, taken down from its own system calls, and
// what a crash of the machine may leave of them. Whoever links disk_trace.cc has write(), fsync()
// and their kin replaced in the whole process, also for shared libraries.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace bitacora::apply {

// Name → content.
using DiskImage = std::map<std::string, std::string>;

// At most one at a time takes down. While it does, nothing of its directory is really synced: what
// a sync is good for is seen in the images. One thread.
class DiskTrace {
 public:
  // `found`: what is in the directory, durable.
  DiskTrace(std::filesystem::path directory, const DiskImage& found);
  ~DiskTrace();
  DiskTrace(const DiskTrace&) = delete;
  DiskTrace& operator=(const DiskTrace&) = delete;

  std::size_t operations() const { return operations_.size(); }

  // The directory as a crash after so many operations may leave it. What was synced is there. Of
  // each later write any sectors may be there, of names a prefix of their changes. A sector of 512
  // bytes is written whole or not at all, as disks promise and as LMDB counts on: its meta data are
  // in one.
  DiskImage crash(std::size_t operations, std::mt19937_64& random) const;

  // The replaced calls report here, after they were done; false: none of ours.
  bool on_write(int descriptor, std::string_view bytes, std::uint64_t offset);
  bool on_truncate(int descriptor, std::uint64_t length);
  bool on_sync(int descriptor);
  void on_rename(const std::string& from, const std::string& to);
  void on_remove(const std::string& path);

 private:
  enum class Kind {
    kWrite,
    kTruncate,
    kSync,
    kSyncLastWrite,
    kCreate,
    kRename,
    kRemove,
    kSyncNames
  };

  struct Operation {
    Kind kind;
    ino_t file = 0;
    std::uint64_t offset = 0;  // the length, of a truncation
    std::string bytes;
    std::string name;
    std::string new_name;
  };
  struct File;
  struct Replay;

  bool is_inside(const std::filesystem::path& path) const;
  std::filesystem::path path_of(int descriptor) const;
  ino_t file_of(int descriptor, const std::string& name);
  void record(Operation operation) { operations_.push_back(std::move(operation)); }

  std::filesystem::path directory_;
  std::map<ino_t, std::string> found_;  // the durable content at the beginning
  std::map<std::string, ino_t> found_names_;
  std::map<ino_t, bool> known_;
  std::vector<Operation> operations_;
};

}  // namespace bitacora::apply
