// Frames of transactions in progress, in files of their own beside the spool's segments until the
// commit comes. Nothing here is synced, and a connection that breaks ends it all: what has not
// committed comes again, whole.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "base/error.h"
#include "proto/replication.pb.h"
#include "transport/spool_segment.h"
#include "transport/storage.h"

namespace bitacora::transport {

// One thread at a time. Errors are the storage's.
class StreamedFiles {
 public:
  explicit StreamedFiles(Storage& storage) : storage_(storage) {}

  // kFull: nothing was appended.
  Result<WriteOutcome> append(std::uint32_t xid, const std::string& record, bool context_reset);
  // What was appended first and not taken since; empty: everything was, and nothing is left. A file
  // goes as soon as it is read: at most one is on disk twice.
  Result<std::optional<pb::Frame>> take(std::uint32_t xid);
  Result<void> drop(std::uint32_t xid);
  // Also what an earlier process left.
  Result<void> drop_all();

  std::uint64_t bytes() const { return bytes_; }

 private:
  // Begins where compression begins afresh, once the one before is large.
  struct File {
    std::string name;
    std::shared_ptr<StorageFile> file;
    std::uint64_t bytes = 0;
  };
  struct Transaction {
    std::deque<File> files;
    std::optional<SegmentScanner> scanner;  // of the first file, once something was taken
  };

  Result<bool> begin_file(Transaction& transaction, std::uint32_t xid);
  Result<void> remove_first(Transaction& transaction);

  Storage& storage_;
  std::map<std::uint32_t, Transaction> transactions_;
  std::uint64_t files_made_ = 0;
  std::uint64_t bytes_ = 0;
};

}  // namespace bitacora::transport
