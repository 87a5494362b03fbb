// Takes pgoutput messages apart: protocol versions 1 to 4, text and binary columns, streamed
// transactions. Two-phase messages are refused (kMaster): Bitácora never asks for them. Source:
// https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html
#pragma once

#include <cstdint>
#include <string_view>
#include <variant>
#include <vector>

#include "base/error.h"
#include "base/lsn.h"
#include "proto/replication.pb.h"
#include "proto/row_block.h"

namespace bitacora::wal {

struct BeginMessage {
  MasterLsn commit_lsn;               // the message calls it final_lsn
  std::int64_t commit_time_usec = 0;  // microseconds since 1970 (the wire counts from 2000)
  std::uint32_t xid = 0;
};

struct CommitMessage {
  MasterLsn commit_lsn;
  MasterLsn end_lsn;
  std::int64_t commit_time_usec = 0;
};

struct OriginMessage {
  MasterLsn commit_lsn;  // on the origin server
  std::string_view name;
};

// For Relation, Type, Insert, Update, Delete, Truncate and Message `xid` is that of the
// (sub)transaction inside a streamed block, else 0.
struct RelationMessage {
  std::uint32_t xid = 0;
  pb::Relation relation;
};

struct TypeMessage {
  std::uint32_t xid = 0;
  pb::Type type;
};

// The row's tuples are views into the decoded buffer.
struct RowMessage {
  std::uint32_t xid = 0;
  std::uint32_t relation_oid = 0;
  pb::RowOperation operation = pb::INSERT;
  proto::Row row;
};

struct TruncateMessage {
  std::uint32_t xid = 0;
  std::vector<std::uint32_t> relation_oids;
  bool cascade = false;
  bool restart_identity = false;
};

// pg_logical_emit_message.
struct LogicalMessage {
  std::uint32_t xid = 0;
  bool transactional = false;
  MasterLsn lsn;
  std::string_view prefix;
  std::string_view content;
};

struct StreamStartMessage {
  std::uint32_t xid = 0;
  bool first_segment = false;
};

struct StreamStopMessage {};

struct StreamCommitMessage {
  std::uint32_t xid = 0;
  MasterLsn commit_lsn;
  MasterLsn end_lsn;
  std::int64_t commit_time_usec = 0;
};

// abort_lsn and abort_time_usec only with protocol 4 and streaming = parallel, else 0.
struct StreamAbortMessage {
  std::uint32_t xid = 0;
  std::uint32_t subxid = 0;
  MasterLsn abort_lsn;
  std::int64_t abort_time_usec = 0;
};

using PgOutputMessage =
    std::variant<BeginMessage, CommitMessage, OriginMessage, RelationMessage, TypeMessage,
                 RowMessage, TruncateMessage, LogicalMessage, StreamStartMessage, StreamStopMessage,
                 StreamCommitMessage, StreamAbortMessage>;

struct PgOutputOptions {
  std::uint32_t proto_version = 1;
  bool streaming_parallel = false;  // the server was asked for streaming 'parallel' (protocol 4)
};

// One decoder per replication connection: it remembers whether it is inside a streamed block, where
// every change carries an xid. Not thread-safe.
class PgOutputDecoder {
 public:
  explicit PgOutputDecoder(PgOutputOptions options) : options_(options) {}

  // Decodes one message as CopyData carried it (after the XLogData header). The answer and its
  // views are valid until the next call and as long as `bytes` lives. Errors, all kMaster, each
  // naming the message: truncated or overlong bytes, an unknown kind, marker or flag, a two-phase
  // message, a message out of place (streamed block, protocol version).
  Result<const PgOutputMessage*> decode(std::string_view bytes);

 private:
  PgOutputOptions options_;
  bool in_stream_ = false;
  PgOutputMessage message_;
  proto::Row spare_row_;  // keeps the tuples' memory while message_ is no row
};

}  // namespace bitacora::wal
