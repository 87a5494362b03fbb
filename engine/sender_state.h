// What a sender remembers between starts: whose slot it made, and which receivers hold it. One TOML
// file, sender.toml, in the state directory.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "base/descriptor.h"
#include "base/error.h"
#include "base/lsn.h"
#include "proto/replication.pb.h"

namespace bitacora::engine {

struct SenderState {
  pb::Identity identity;
  MasterLsn slot_from;  // where the slot began, or was first taken over
  std::map<std::string, MasterLsn>
      receivers;  // registered, with what each had durably when last noted
};

// Holds the directory's lock as long as it lives. One thread at a time.
class SenderStateFile {
 public:
  // Creates the directory when it is absent. kConfiguration: in use, unreadable, not ours.
  static Result<SenderStateFile> open(const std::filesystem::path& directory);

  // Empty before the first save().
  const std::optional<SenderState>& state() const { return state_; }

  // Durable when it returns: written beside, synced, renamed.
  Result<void> save(const SenderState& state);

 private:
  explicit SenderStateFile(std::filesystem::path directory) : directory_(std::move(directory)) {}
  Result<void> load();

  std::filesystem::path directory_;
  Descriptor lock_;
  std::optional<SenderState> state_;
};

}  // namespace bitacora::engine
