// The file operations the spool needs, as an interface: so that a test can crash between any two of
// them. Errors are kInternal with the path and what the system said.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace bitacora::transport {

enum class WriteOutcome {
  kDone,
  kFull,  // no space or quota left; nothing was written
};

// An open file. read_at() and size() may be called by any thread while another appends. It stays
// readable after its name was removed.
class StorageFile {
 public:
  virtual ~StorageFile() = default;

  virtual const std::string& path() const = 0;  // for messages

  // All of `bytes` at the end of the file, or none. Not durable until sync().
  virtual Result<WriteOutcome> append(std::string_view bytes) = 0;

  // Shortens the file to `bytes`. Not durable until sync().
  virtual Result<void> truncate(std::uint64_t bytes) = 0;

  // Content and length are durable when it returns. After an error nothing written since the last
  // success may be trusted, whatever a second call says: the system may have dropped it.
  virtual Result<void> sync() = 0;

  // Fills `into` from `offset` on; fewer bytes only at the end of the file.
  virtual Result<std::size_t> read_at(std::uint64_t offset, std::span<char> into) const = 0;

  virtual Result<std::uint64_t> size() const = 0;
};

// One directory. Its calls may come from several threads.
class Storage {
 public:
  virtual ~Storage() = default;

  virtual const std::string& path() const = 0;  // for messages
  virtual Result<std::vector<std::string>> list() const = 0;

  // A new file, for appending; null when no space is left. An existing name is an error. The name
  // is durable after sync_directory().
  virtual Result<std::shared_ptr<StorageFile>> create(const std::string& name) = 0;
  virtual Result<std::shared_ptr<StorageFile>> open(const std::string& name) = 0;

  // Durable after sync_directory(): until then a crash may bring the file back.
  virtual Result<void> remove(const std::string& name) = 0;
  virtual Result<void> sync_directory() = 0;

  // What this user may still write on the file system.
  virtual Result<std::uint64_t> free_bytes() const = 0;
};

}  // namespace bitacora::transport
