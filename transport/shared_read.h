// The one read of the slot that receivers share, and how far a receiver is: who gets which batch of
// it, who reads alone instead, and where those come back. Pure: positions in, decisions out.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <vector>

#include "base/lsn.h"
#include "proto/batch.h"
#include "proto/descriptions.h"

namespace bitacora::transport {

struct CompanyRules {
  bool can_read_alone = false;
  // So much WAL between two receivers is no reason for two readers, and from so far behind a reader
  // of one's own can come back.
  std::uint64_t near_bytes = 4u << 20;
};

// Between two batches.
class SharedRead {
 public:
  // A new run: nothing is described, no transaction and no stream is open.
  void begin(MasterLsn start);
  // Everybody has this batch, or none of it is for them.
  void advance(const proto::EncodedBatch& batch);
  // The run ended inside of a transaction: until the next one nobody can come in.
  void break_off() { transaction_open_ = true; }

  MasterLsn position() const { return position_; }
  // Whoever has everything up to position() can come in here.
  bool at_boundary() const { return !transaction_open_; }
  const std::set<std::uint32_t>& open_streams() const { return open_streams_; }
  const proto::Descriptions& descriptions() const { return descriptions_; }

 private:
  MasterLsn position_;
  bool transaction_open_ = true;  // before the first run
  std::set<std::uint32_t> open_streams_;
  proto::Descriptions descriptions_;
};

enum class Delivery {
  kPut,
  kLeaveOut,  // it has that already, or lacks the beginning of the stream
  kReadAlone  // a stream whose beginning it lacks has become a transaction
};

// How far one receiver is, counting what is in its queue.
class ReceiverCursor {
 public:
  explicit ReceiverCursor(MasterLsn position) : position_(position) {}

  // Everything up to here is in the queue or sent.
  MasterLsn position() const { return position_; }
  // It holds no part of anything unfinished: its reader can be another one from here on.
  bool between_transactions() const { return !in_transaction_ && streams_.empty(); }

  // From here on it takes part in a common read with these open streams.
  void come_in(const std::set<std::uint32_t>& open_streams);
  Delivery delivery(const proto::EncodedBatch& batch) const;
  void put(const proto::EncodedBatch& batch);
  void leave_out(const proto::EncodedBatch& batch);

 private:
  MasterLsn position_;
  bool in_transaction_ = false;
  std::set<std::uint32_t> streams_;  // it has the beginnings of these
  std::set<std::uint32_t> missing_;  // and not of these
};

// Where the common read begins anew: as far as the furthest receiver, less what is near. Those
// further behind read alone, if they can, or the read begins as far back as the last of them is.
// `positions` is not empty.
MasterLsn common_start(const std::vector<MasterLsn>& positions, const CompanyRules& rules);

enum class Entry {
  kComeIn,
  kReadAlone,
  kRestart,  // the common read begins anew, for its sake
  kWait,     // for the end of a transaction
};

// Of a receiver at this position that wants to take part in a common read which others follow.
Entry entry(const SharedRead& common, MasterLsn position, const CompanyRules& rules);

enum class WayBack {
  kNow,
  kHold,  // near: what the common read brings from here on is held for it, until it has the rest
  kFar,
};

WayBack way_back(const SharedRead& common, MasterLsn position, const CompanyRules& rules);

}  // namespace bitacora::transport
