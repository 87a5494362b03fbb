#include "wal/pgoutput_decoder.h"

#include <array>
#include <limits>
#include <optional>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "base/bytes.h"
#include "proto/relation.h"

namespace bitacora::wal {
namespace {

constexpr std::int64_t kUsecFrom1970To2000 = 946'684'800'000'000;

constexpr std::size_t kTupleColumnBytesMin = 1;                 // its kind
constexpr std::size_t kRelationColumnBytesMin = 1 + 1 + 4 + 4;  // flags, empty name, type, modifier
constexpr std::size_t kTruncatedRelationBytes = 4;

constexpr std::uint8_t kMessageTransactional = 1;
constexpr std::uint8_t kColumnIsKey = 1;
constexpr std::uint8_t kTruncateCascade = 1;
constexpr std::uint8_t kTruncateRestartIdentity = 2;
constexpr std::uint8_t kFirstSegment = 1;

// Where a message may stand as to a streamed block, between Stream Start and Stream Stop.
enum class Place { kAnywhere, kOutsideBlock, kInsideBlock, kNowhere };

struct Form {
  char kind;
  std::string_view name;
  std::uint32_t since_proto;
  Place place;
};

constexpr auto kForms = std::to_array<Form>({
    {'I', "Insert", 1, Place::kAnywhere},
    {'U', "Update", 1, Place::kAnywhere},
    {'D', "Delete", 1, Place::kAnywhere},
    {'B', "Begin", 1, Place::kOutsideBlock},
    {'C', "Commit", 1, Place::kOutsideBlock},
    {'R', "Relation", 1, Place::kAnywhere},
    {'Y', "Type", 1, Place::kAnywhere},
    {'O', "Origin", 1, Place::kAnywhere},
    {'T', "Truncate", 1, Place::kAnywhere},
    {'M', "Message", 1, Place::kAnywhere},
    {'S', "Stream Start", 2, Place::kOutsideBlock},
    {'E', "Stream Stop", 2, Place::kInsideBlock},
    {'c', "Stream Commit", 2, Place::kOutsideBlock},
    {'A', "Stream Abort", 2, Place::kOutsideBlock},
    {'b', "Begin Prepare", 3, Place::kNowhere},
    {'P', "Prepare", 3, Place::kNowhere},
    {'K', "Commit Prepared", 3, Place::kNowhere},
    {'r', "Rollback Prepared", 3, Place::kNowhere},
    {'p', "Stream Prepare", 3, Place::kNowhere},
});

const Form* find_form(char kind) {
  for (const Form& form : kForms) {
    if (form.kind == kind) return &form;
  }
  return nullptr;
}

std::string quoted(char byte) {
  const auto code = static_cast<unsigned char>(byte);
  return code > 0x20 && code < 0x7f ? fmt::format("'{}'", byte) : fmt::format("0x{:02x}", code);
}

Error refused(std::string message) {
  return Error{ErrorCode::kMaster, std::move(message),
               "check that the slot's plugin is pgoutput and that this version of bitacora "
               "supports the master's"};
}

Error malformed(const Form& form, std::string_view what) {
  return refused(fmt::format("malformed pgoutput {} message: {}", form.name, what));
}

Error two_phase_refused(const Form& form) {
  return Error{
      ErrorCode::kMaster,
      fmt::format("the master sent a pgoutput {} message, two-phase commit is not asked for",
                  form.name),
      "the slot was created with two_phase: drop it and create it without"};
}

// The fields of one message, in order. The first thing wrong is remembered and told by finish();
// what is read after it is meaningless, but safe.
class Fields {
 public:
  Fields(const Form& form, std::string_view bytes, bool in_stream)
      : form_(form), reader_(bytes), in_stream_(in_stream) {}

  template <class Integer>
  Integer integer() {
    return reader_.integer<Integer>();
  }
  char character() { return reader_.integer<char>(); }
  std::string_view take(std::size_t count) { return reader_.take(count); }
  std::string_view c_string() { return reader_.c_string(); }
  std::string_view name_space() {
    const auto name = c_string();
    return name.empty() ? "pg_catalog" : name;
  }
  MasterLsn lsn() { return MasterLsn{integer<std::uint64_t>()}; }
  std::uint32_t xid() { return integer<std::uint32_t>(); }
  std::uint32_t xid_if_streamed() { return in_stream_ ? xid() : 0; }

  // As microseconds since 1970.
  std::int64_t time_usec() {
    const auto since_2000 = integer<std::int64_t>();
    if (since_2000 > std::numeric_limits<std::int64_t>::max() - kUsecFrom1970To2000) {
      fail("a time out of range");
      return 0;
    }
    return since_2000 + kUsecFrom1970To2000;
  }

  // A flag that nobody knows may change what the message means.
  std::uint8_t flags(std::uint8_t known) {
    const auto flags = integer<std::uint8_t>();
    if ((flags & ~known) != 0) fail(fmt::format("unknown flags 0x{:02x}", flags));
    return flags;
  }

  // Whether the rest of the message can hold that many elements: asked before memory is reserved.
  bool holds(std::int64_t count, std::size_t element_bytes_min) {
    const auto left = reader_.rest().size();
    if (count >= 0 && static_cast<std::size_t>(count) <= left / element_bytes_min) return true;
    fail(fmt::format("a count of {} with {} bytes left", count, left));
    return false;
  }

  std::size_t column_count(std::size_t column_bytes_min) {
    const auto count = integer<std::int16_t>();
    return holds(count, column_bytes_min) ? static_cast<std::size_t>(count) : 0;
  }

  void fail(std::string what) {
    if (reader_.ok() && !problem_) problem_ = std::move(what);
  }

  Result<void> finish() const {
    if (problem_) return malformed(form_, *problem_);
    if (!reader_.ok()) return malformed(form_, "the bytes end too early");
    if (!reader_.empty()) {
      return malformed(form_, fmt::format("{} bytes too many", reader_.rest().size()));
    }
    return {};
  }

 private:
  const Form& form_;
  ByteReader reader_;
  bool in_stream_;
  std::optional<std::string> problem_;
};

// Braced initializers are evaluated in order, which is the order of the fields on the wire.
BeginMessage read_begin(Fields& fields) {
  return BeginMessage{fields.lsn(), fields.time_usec(), fields.xid()};
}

CommitMessage read_commit(Fields& fields) {
  fields.flags(0);
  return CommitMessage{fields.lsn(), fields.lsn(), fields.time_usec()};
}

OriginMessage read_origin(Fields& fields) { return OriginMessage{fields.lsn(), fields.c_string()}; }

pb::ReplicaIdentity read_replica_identity(Fields& fields) {
  const char letter = fields.character();
  const auto identity = proto::replica_identity(letter);
  if (!identity) fields.fail(fmt::format("unknown replica identity {}", quoted(letter)));
  return identity.value_or(pb::REPLICA_IDENTITY_DEFAULT);
}

void read_column(Fields& fields, pb::Column& column) {
  column.set_key((fields.flags(kColumnIsKey) & kColumnIsKey) != 0);
  column.set_name(std::string(fields.c_string()));
  column.set_type_oid(fields.integer<std::uint32_t>());
  column.set_type_modifier(fields.integer<std::int32_t>());
}

RelationMessage read_relation(Fields& fields) {
  RelationMessage message;
  message.xid = fields.xid_if_streamed();
  pb::Relation& relation = message.relation;
  relation.set_oid(fields.integer<std::uint32_t>());
  relation.set_schema(std::string(fields.name_space()));
  relation.set_name(std::string(fields.c_string()));
  relation.set_replica_identity(read_replica_identity(fields));
  const auto columns = fields.column_count(kRelationColumnBytesMin);
  relation.mutable_columns()->Reserve(static_cast<int>(columns));
  for (std::size_t i = 0; i < columns; ++i) read_column(fields, *relation.add_columns());
  return message;
}

TypeMessage read_type(Fields& fields) {
  TypeMessage message;
  message.xid = fields.xid_if_streamed();
  message.type.set_oid(fields.integer<std::uint32_t>());
  message.type.set_schema(std::string(fields.name_space()));
  message.type.set_name(std::string(fields.c_string()));
  return message;
}

// False ends the tuple: the column's kind is unknown, so where the next one begins is too.
bool read_value(Fields& fields, proto::Value& value) {
  const char kind = fields.character();
  value.kind = static_cast<proto::ValueKind>(kind);
  switch (value.kind) {
    case proto::ValueKind::kNull:
    case proto::ValueKind::kUnchanged:
      value.bytes = {};
      return true;
    case proto::ValueKind::kText:
    case proto::ValueKind::kBinary:
      // A negative length is, unsigned, more than any message holds.
      value.bytes = fields.take(fields.integer<std::uint32_t>());
      return true;
  }
  fields.fail(fmt::format("unknown column kind {}", quoted(kind)));
  return false;
}

void read_tuple(Fields& fields, proto::Tuple& tuple) {
  tuple.resize(fields.column_count(kTupleColumnBytesMin));
  for (proto::Value& value : tuple) {
    if (!read_value(fields, value)) return;
  }
}

void read_new_tuple(Fields& fields, char marker, proto::Row& row) {
  if (marker != 'N') {
    return fields.fail(fmt::format("a new tuple expected, not {}", quoted(marker)));
  }
  read_tuple(fields, row.new_tuple);
}

// [K|O] N
pb::RowOperation read_update(Fields& fields, proto::Row& row) {
  const char marker = fields.character();
  if (marker != 'K' && marker != 'O') {
    read_new_tuple(fields, marker, row);
    return pb::UPDATE;
  }
  read_tuple(fields, row.old_tuple);
  read_new_tuple(fields, fields.character(), row);
  return marker == 'K' ? pb::UPDATE_KEY : pb::UPDATE_FULL;
}

pb::RowOperation read_delete(Fields& fields, proto::Row& row) {
  const char marker = fields.character();
  if (marker != 'K' && marker != 'O') {
    fields.fail(fmt::format("an old tuple expected, not {}", quoted(marker)));
    return pb::DELETE_KEY;
  }
  read_tuple(fields, row.old_tuple);
  return marker == 'K' ? pb::DELETE_KEY : pb::DELETE_FULL;
}

void read_row(char kind, Fields& fields, RowMessage& message) {
  message.xid = fields.xid_if_streamed();
  message.relation_oid = fields.integer<std::uint32_t>();
  if (kind == 'I' || kind == 'U') message.row.old_tuple.clear();
  if (kind == 'D') message.row.new_tuple.clear();
  if (kind == 'U') {
    message.operation = read_update(fields, message.row);
  } else if (kind == 'D') {
    message.operation = read_delete(fields, message.row);
  } else {
    message.operation = pb::INSERT;
    read_new_tuple(fields, fields.character(), message.row);
  }
}

TruncateMessage read_truncate(Fields& fields) {
  TruncateMessage message;
  message.xid = fields.xid_if_streamed();
  // The flags stand between the count and the relations.
  const auto relations = fields.integer<std::int32_t>();
  const auto flags = fields.flags(kTruncateCascade | kTruncateRestartIdentity);
  message.cascade = (flags & kTruncateCascade) != 0;
  message.restart_identity = (flags & kTruncateRestartIdentity) != 0;
  if (!fields.holds(relations, kTruncatedRelationBytes)) return message;
  message.relation_oids.resize(static_cast<std::size_t>(relations));
  for (auto& oid : message.relation_oids) oid = fields.integer<std::uint32_t>();
  return message;
}

LogicalMessage read_logical_message(Fields& fields) {
  LogicalMessage message;
  message.xid = fields.xid_if_streamed();
  message.transactional = fields.flags(kMessageTransactional) != 0;
  message.lsn = fields.lsn();
  message.prefix = fields.c_string();
  message.content = fields.take(fields.integer<std::uint32_t>());
  return message;
}

StreamStartMessage read_stream_start(Fields& fields) {
  return StreamStartMessage{fields.xid(), fields.flags(kFirstSegment) != 0};
}

StreamCommitMessage read_stream_commit(Fields& fields) {
  const auto xid = fields.xid();
  fields.flags(0);
  return StreamCommitMessage{xid, fields.lsn(), fields.lsn(), fields.time_usec()};
}

StreamAbortMessage read_stream_abort(Fields& fields, bool with_position) {
  StreamAbortMessage message{fields.xid(), fields.xid(), {}, 0};
  if (!with_position) return message;
  message.abort_lsn = fields.lsn();
  message.abort_time_usec = fields.time_usec();
  return message;
}

Result<void> check_place(const Form& form, std::uint32_t proto_version, bool in_stream) {
  if (form.place == Place::kNowhere) return two_phase_refused(form);
  if (proto_version < form.since_proto) {
    return malformed(form, fmt::format("protocol version {} has no such message", proto_version));
  }
  if (form.place == Place::kOutsideBlock && in_stream) {
    return malformed(form, "it came inside a streamed block");
  }
  if (form.place == Place::kInsideBlock && !in_stream) {
    return malformed(form, "it came outside a streamed block");
  }
  return {};
}

// Every message but the rows'; `kind` has a form.
PgOutputMessage read_message(char kind, Fields& fields, bool abort_with_position) {
  switch (kind) {
    case 'B':
      return read_begin(fields);
    case 'C':
      return read_commit(fields);
    case 'R':
      return read_relation(fields);
    case 'Y':
      return read_type(fields);
    case 'O':
      return read_origin(fields);
    case 'T':
      return read_truncate(fields);
    case 'M':
      return read_logical_message(fields);
    case 'S':
      return read_stream_start(fields);
    case 'c':
      return read_stream_commit(fields);
    case 'A':
      return read_stream_abort(fields, abort_with_position);
    default:
      CHECK(kind == 'E');
      return StreamStopMessage{};
  }
}

}  // namespace

Result<const PgOutputMessage*> PgOutputDecoder::decode(std::string_view bytes) {
  if (bytes.empty()) return refused("empty pgoutput message");
  const char kind = bytes.front();
  const Form* form = find_form(kind);
  if (form == nullptr) return refused(fmt::format("unknown pgoutput message {}", quoted(kind)));
  RETURN_IF_ERROR(check_place(*form, options_.proto_version, in_stream_));

  Fields fields(*form, bytes.substr(1), in_stream_);
  if (auto* last = std::get_if<RowMessage>(&message_)) spare_row_ = std::move(last->row);
  if (kind == 'I' || kind == 'U' || kind == 'D') {
    auto& message = message_.emplace<RowMessage>();
    message.row = std::move(spare_row_);
    read_row(kind, fields, message);
  } else {
    message_ =
        read_message(kind, fields, options_.proto_version >= 4 && options_.streaming_parallel);
  }
  RETURN_IF_ERROR(fields.finish());
  if (kind == 'S') in_stream_ = true;
  if (kind == 'E') in_stream_ = false;
  return &message_;
}

}  // namespace bitacora::wal
