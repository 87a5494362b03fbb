// Reads the spool from a position on, while it grows.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <variant>

#include "base/error.h"
#include "base/lsn.h"
#include "proto/replication.pb.h"
#include "transport/frame_codec.h"
#include "transport/spool.h"
#include "transport/spool_segment.h"

namespace bitacora::transport {

struct SpoolBatch {
  std::shared_ptr<pb::ChangeBatch> changes;
  std::size_t bytes = 0;  // serialized
  MasterLsn end_lsn;      // everything up to here is complete with this batch; 0: nothing new
  SpoolPlace place;       // behind it
};

// Nothing more at the moment.
struct SpoolTail {};

// What was read of a transaction that is still open will not be continued: a new connection cut it
// off, and it comes again whole.
struct SpoolAbandoned {};

using SpoolEvent = std::variant<SpoolBatch, SpoolTail, SpoolAbandoned>;

// One thread. Must not outlive its spool.
class SpoolReader {
 public:
  // Batches in order; may hold what is not yet synced. A reader made by read_from() hands out first
  // what its segment's header says: a batch of the types and relations described before (end_lsn
  // 0), if there are any. kState: damage, naming file, offset and LSN range, or a gap to a new
  // beginning of the spool. An error that heals: the storage's.
  Result<SpoolEvent> next();

 private:
  friend class Spool;
  SpoolReader(const Spool& spool, MasterLsn held) : spool_(spool), held_(held) {}

  Result<void> enter(const Spool::SharedSegment& segment, std::shared_ptr<const StorageFile> file);
  Result<void> check_follows(const SegmentFacts& next) const;
  Result<void> check_first_frame(const pb::Frame& frame) const;
  void describe(const pb::SpoolHeader& header);
  Result<std::optional<SpoolEvent>> take(std::uint64_t readable);
  Result<std::optional<SpoolEvent>> take_frame();
  Result<SpoolEvent> finish_batch();
  void abandon();
  Result<Spool::Outlook> look() const;
  Error damage(const std::string& why) const;

  const Spool& spool_;
  MasterLsn held_;                  // the consumer has everything up to here
  std::uint64_t silent_until_ = 0;  // of the first segment: what was already consumed
  std::optional<SpoolEvent> due_;   // handed out next

  Spool::SharedSegment segment_;  // null before the first, and after it was abandoned
  std::uint64_t life_ = 0;        // of the last segment; the next one's is higher
  std::optional<SegmentScanner> scanner_;
  std::optional<FrameDecoder> decoder_;  // since the segment's first frame
  MasterLsn complete_;                   // up to here everything is complete, where the scanner is
  std::uint64_t sequence_ = 0;           // of the last frame; 0: none yet
};

}  // namespace bitacora::transport
