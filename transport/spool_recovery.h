// What a spool's directory holds after a restart, cut back to where a reader may trust it.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/error.h"
#include "proto/replication.pb.h"
#include "transport/spool_segment.h"
#include "transport/storage.h"

namespace bitacora::transport {

// What is known of a segment without reading its records.
struct SegmentFacts {
  std::uint64_t number = 0;
  MasterLsn start_lsn;          // everything up to here is complete in the segments before
  bool in_transaction = false;  // it begins in the middle of one
  std::int64_t created_usec = 0;
  std::uint64_t header_bytes = 0;
  std::uint64_t bytes = 0;  // of its file
};

struct RecoveredSpool {
  std::optional<pb::Identity> identity;  // absent when there is no segment
  std::uint32_t timeline = 0;            // the last segment's
  std::vector<SegmentFacts> segments;  // without a hole; the first one begins outside transactions
  SyncedMark end;                      // the last cut point; nothing lies behind it
};

// Validates everything first; the directory is changed only when nothing is wrong: an unfinished
// tail is cut, what belongs to no chain is removed. What is returned is durable. kState: damage
// that no crash explains, segments of another stream than `expected` or of two, another format; or
// less than `synced` says. An error that heals is the storage's.
Result<RecoveredSpool> recover_spool(Storage& storage, const std::optional<SyncedMark>& synced,
                                     const std::optional<pb::Identity>& expected, bool sync = true);

// kState, naming the file, the offset and what is missing.
Error segment_damaged(const std::string& path, std::uint64_t offset, const std::string& why,
                      MasterLsn missing_after, MasterLsn missing_until);

}  // namespace bitacora::transport
