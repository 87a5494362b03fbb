// A serialized pb::ChangeBatch on its way from the reader to the connections.
#pragma once

#include <memory>
#include <string>

#include "base/lsn.h"

namespace bitacora::proto {

struct EncodedBatch {
  std::string bytes;  // a serialized pb::ChangeBatch
  MasterLsn end_lsn;  // everything up to here is complete with this batch; 0: nothing new
  bool transaction_open = false;  // it ends inside a transaction whose Commit follows later
};

using SharedBatch = std::shared_ptr<const EncodedBatch>;

}  // namespace bitacora::proto
