// A pb::ChangeBatch on its way: serialized from the reader to the connections, parsed from the
// network or the spool to the applier.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/lsn.h"
#include "proto/replication.pb.h"

namespace bitacora::proto {

// What a batch means to a transaction that is streamed while it is in progress. Such a batch holds
// nothing of any other transaction.
enum class StreamEvent {
  kNone,
  kPart,    // rows of an open stream
  kCommit,  // through it the stream becomes a transaction
  kAbort,   // the stream is dropped
};

struct EncodedBatch {
  std::string bytes;  // a serialized pb::ChangeBatch
  MasterLsn end_lsn;  // everything up to here is complete with this batch; 0: nothing new
  bool transaction_open = false;  // it ends inside a transaction whose Commit follows later
  // Only its relations and types; null when it describes none.
  std::shared_ptr<const pb::ChangeBatch> described = nullptr;
  std::uint32_t stream_xid = 0;  // of the streamed transaction; 0: none
  StreamEvent stream_event = StreamEvent::kNone;
};

using SharedBatch = std::shared_ptr<const EncodedBatch>;

// The changes, all of them in one arena: a part of its own on the heap costs more than what is in
// it. Null when the bytes are no batch.
std::shared_ptr<pb::ChangeBatch> parse_batch(std::string_view bytes);

}  // namespace bitacora::proto
