// One connection as the receiver sees it: what it asks for, what is to be done with each frame,
// what it acknowledges and when. Pure: messages in, actions out; no clock, no I/O, no lock.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/error.h"
#include "base/lsn.h"
#include "proto/replication.pb.h"
#include "transport/message_decoder.h"

namespace bitacora::transport {

struct ReceiverName {
  std::string stream;
  std::string receiver;
  std::string instance;
  std::vector<std::string> tables = {};  // what it wants, as patterns; none: all that it may have
};

// What the sender's first message must be. kNetwork, healing: it was something else.
// kConfiguration: another version.
Result<pb::Welcome> read_welcome(pb::SenderMessage message);

// To the spool, as it came; until the spool has room for it nothing else of it is done.
struct AppendFrame {
  pb::Frame frame;
  bool transaction_open = false;  // behind it
};

// To the spool, for the segments after this one.
struct DescribeRelation {
  pb::Relation relation;
};
struct DescribeType {
  pb::Type type;
};

// Beside the spool, until its transaction's end. What is done when there is no room is the same.
struct AppendStreamed {
  StreamedFrame streamed;
};
// Everything that was appended of it: to the spool, in the open transaction.
struct SpliceStreamed {
  std::uint32_t xid = 0;
};
struct DropStreamed {
  std::uint32_t xid = 0;
};

// To apply, with the place that appending its last frame answered.
struct PutBatch {
  std::shared_ptr<pb::ChangeBatch> changes;
  std::size_t bytes = 0;
  MasterLsn end_lsn;
  bool transaction_open = false;
};

// It is taken in and may be acknowledged as received.
struct NoteReceived {
  std::uint64_t frames = 0;  // so far
  MasterLsn end_lsn;         // 0: it completed nothing
};

using ReceiverAction = std::variant<AppendFrame, AppendStreamed, SpliceStreamed, DropStreamed,
                                    DescribeRelation, DescribeType, PutBatch, NoteReceived>;

class ReceiverSession {
 public:
  // `identity`: what is followed, when that is known. `resume`: the end of what the receiver holds
  // durably, 0 at its first start. `timeline`: of the master there, 0 when it is not known.
  ReceiverSession(const ReceiverName& name, const std::optional<pb::Identity>& identity,
                  MasterLsn resume, std::uint32_t timeline = 0);

  const pb::Hello& hello() const { return hello_; }

  // Where the spool begins this connection. kState: not where we asked for.
  Result<MasterLsn> on_welcome(const pb::Welcome& welcome) const;

  // To be done in this order.
  std::vector<ReceiverAction> on(SenderEvent event);

 private:
  using Actions = std::vector<ReceiverAction>;

  Actions on_event(ReceivedFrame received);
  Actions on_event(StreamedFrame streamed);
  Actions on_event(StreamCommitted committed);
  Actions on_event(StreamAborted aborted);
  Actions on_event(pb::Heartbeat) { return {}; }  // nothing to spool or to acknowledge

  pb::Hello hello_;
  std::uint64_t frames_ = 0;                            // taken in
  std::map<std::uint32_t, pb::ChangeBatch> described_;  // in streamed transactions, by xid
  bool transaction_open_ = false;                       // behind the last batch
};

// What a receiver knows of itself.
struct ReceiverProgress {
  std::uint64_t frames = 0;  // taken in on this connection
  MasterLsn received;
  MasterLsn flushed;
  MasterLsn applied;
};

// Something more was applied or became durable, or several frames came in: the sender's window has
// to move.
bool worth_acknowledging(const ReceiverProgress& acknowledged, const ReceiverProgress& now);

pb::Ack acknowledgement(const ReceiverProgress& progress);

}  // namespace bitacora::transport
