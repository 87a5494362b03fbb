// What a sender remembers between starts: whose slot it made, and which receivers hold it. One TOML
// file, sender.toml, in the state directory.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/descriptor.h"
#include "base/error.h"
#include "base/lsn.h"
#include "proto/replication.pb.h"

namespace bitacora::engine {

// A receiver that was away for longer than the slot was to be held for it.
struct DroppedReceiver {
  MasterLsn flushed;              // what it had
  MasterLsn wal_lsn;              // where the master's WAL ended then
  std::uint64_t limit_bytes = 0;  // of what was kept for it
  std::string at;                 // when, in UTC

  friend bool operator==(const DroppedReceiver&, const DroppedReceiver&) = default;
};

struct SenderState {
  pb::Identity identity;
  MasterLsn slot_from;  // where the slot began, or was first taken over
  std::map<std::string, MasterLsn>
      receivers;  // registered, with what each had durably when last noted
  std::map<std::string, DroppedReceiver> dropped = {};  // until they come back or are forgotten
  // All the names in the certificate that each showed last, if it had any.
  std::map<std::string, std::vector<std::string>> certificates = {};
};

// Holds the directory's lock as long as it lives. One thread at a time.
class SenderStateFile {
 public:
  // Creates the directory when it is absent. kConfiguration: in use, unreadable, not ours.
  static Result<SenderStateFile> open(const std::filesystem::path& directory);

  // The same of a directory that is there; empty when a sender has it open. kConfiguration also:
  // there is none.
  static Result<std::optional<SenderStateFile>> open_unless_in_use(
      const std::filesystem::path& directory);

  // Empty before the first save().
  const std::optional<SenderState>& state() const { return state_; }

  // Durable when it returns: written beside, synced, renamed.
  Result<void> save(const SenderState& state);

 private:
  explicit SenderStateFile(std::filesystem::path directory) : directory_(std::move(directory)) {}
  Result<bool> lock();  // false: it is in use
  Result<void> load();

  std::filesystem::path directory_;
  Descriptor lock_;
  std::optional<SenderState> state_;
};

}  // namespace bitacora::engine
