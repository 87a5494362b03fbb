// The receiver's data directory: an LMDB environment that remembers whose changes were applied and
// how far. It is written after the standby and never trusted over it (rule I4). apply/FORMAT.md
// describes the keys.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "apply/progress.h"
#include "base/descriptor.h"
#include "base/error.h"

struct MDB_env;

namespace bitacora::apply {

// What a receiver's spool had made durable when the checkpoint was written: less on the next start
// is damage.
struct SpoolNote {
  std::uint64_t segment = 0;  // its number
  std::uint64_t bytes = 0;    // of its file
  MasterLsn lsn;

  friend bool operator==(const SpoolNote&, const SpoolNote&) = default;
};

struct CheckpointState {
  Progress progress;
  std::optional<SpoolNote> spool;  // absent: nothing was in it
};

// One process at a time has a data directory open. One thread at a time.
class Checkpoint {
 public:
  // Creates the directory when it is absent or empty; a crash meanwhile leaves nothing that hinders
  // the next start. kConfiguration: in use, unreadable, or holding something else.
  static Result<Checkpoint> open(const std::filesystem::path& directory);

  // Random, made with the directory: tells a reconnecting receiver from another one of the same
  // name.
  const std::string& instance() const { return instance_; }

  Result<std::optional<CheckpointState>> load() const;
  // Durable when it returns (LMDB's default sync mode).
  Result<void> save(const CheckpointState& state);

 private:
  struct CloseEnvironment {
    void operator()(MDB_env* environment) const noexcept;
  };
  Checkpoint() = default;
  static Result<void> make(const std::filesystem::path& directory, int descriptor);
  int open_environment(const std::filesystem::path& path, unsigned flags);  // LMDB's code
  Result<void> open_database();
  Result<void> open_instance(const std::filesystem::path& directory);
  Result<std::optional<std::string>> get(const std::string& key) const;
  Result<void> put(const std::vector<std::pair<std::string, std::string>>& entries);

  Descriptor lock_;  // flock on the directory: LMDB itself would let a second process in
  std::unique_ptr<MDB_env, CloseEnvironment> environment_;
  unsigned database_ = 0;
  std::string instance_;
};

}  // namespace bitacora::apply
