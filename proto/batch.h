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

// What a batch is to a transaction that is streamed while it is in progress. Such a batch holds
// nothing of any other transaction, and none comes inside of another transaction.
enum class StreamEvent {
  kNone,
  kPart,    // rows of it, which count when its commit comes
  kCommit,  // they count, between `bytes` (its Begin) and `closing` (its Commit)
  kAbort,   // they do not
};

// Whether the batch has its place in the order of commits.
inline bool is_in_order(StreamEvent event) {
  return event == StreamEvent::kNone || event == StreamEvent::kCommit;
}

struct EncodedBatch {
  std::string bytes = {};  // a serialized pb::ChangeBatch
  MasterLsn end_lsn = {};  // everything up to here is complete with this batch; 0: nothing new
  bool transaction_open = false;  // it ends inside a transaction whose Commit follows later
  // Only its relations and types; null when it describes none. Of a streamed transaction all that
  // it described, with its kCommit.
  std::shared_ptr<const pb::ChangeBatch> described = nullptr;
  StreamEvent event = StreamEvent::kNone;
  std::uint32_t stream_xid = 0;
  std::string closing = {};  // kCommit: another serialized pb::ChangeBatch
};

using SharedBatch = std::shared_ptr<const EncodedBatch>;

// The bytes of a batch, whose numbers become differences: it is of no more use.
std::string serialize_batch(pb::ChangeBatch& batch);

// The changes, all of them in one arena: a part of its own on the heap costs more than what is in
// it. Null when the bytes are no batch.
std::shared_ptr<pb::ChangeBatch> parse_batch(std::string_view bytes);

// Appends the relations and types of a batch, and passes over its rows without looking into them.
// False when the bytes are no batch.
bool parse_descriptions(std::string_view bytes, pb::ChangeBatch& into);

}  // namespace bitacora::proto
