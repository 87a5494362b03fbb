// A pb::ChangeBatch on its way: serialized from the reader to the connections, parsed from the
// network or the spool to the applier.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/lsn.h"
#include "proto/replication.pb.h"

namespace bitacora::proto {

struct EncodedBatch {
  std::string bytes;  // a serialized pb::ChangeBatch
  MasterLsn end_lsn;  // everything up to here is complete with this batch; 0: nothing new
  bool transaction_open = false;  // it ends inside a transaction whose Commit follows later
};

using SharedBatch = std::shared_ptr<const EncodedBatch>;

// The changes, all of them in one arena: a part of its own on the heap costs more than what is in
// it. Null when the bytes are no batch.
std::shared_ptr<pb::ChangeBatch> parse_batch(std::string_view bytes);

}  // namespace bitacora::proto
