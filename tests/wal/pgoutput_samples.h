// A valid sample of every pgoutput message for every protocol version, and what each one means.
#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <fmt/format.h>

#include "base/bytes.h"
#include "wal/pgoutput_decoder.h"

namespace bitacora::wal::samples {

// 2024-01-01 00:00:00 UTC, as the wire counts it and as we do.
inline constexpr std::int64_t kTimeOnWire = 757'382'400'000'000;
inline constexpr std::int64_t kTime = 1'704'067'200'000'000;

inline constexpr PgOutputOptions kProto1{1, false};
inline constexpr PgOutputOptions kProto2{2, false};
inline constexpr PgOutputOptions kProto3{3, false};
inline constexpr PgOutputOptions kProto4{4, false};
inline constexpr PgOutputOptions kParallel{4, true};

class Bytes {
 public:
  explicit Bytes(char kind) { byte(kind); }

  Bytes& byte(char value) { return integer(value); }
  Bytes& int8(std::uint8_t value) { return integer(value); }
  Bytes& int16(std::int16_t value) { return integer(value); }
  Bytes& int32(std::uint32_t value) { return integer(value); }
  Bytes& int64(std::int64_t value) { return integer(value); }
  Bytes& string(std::string_view text) {
    out_.append(text);
    return byte('\0');
  }
  Bytes& column(std::uint8_t flags, std::string_view name, std::uint32_t type,
                std::uint32_t modifier) {
    return int8(flags).string(name).int32(type).int32(modifier);
  }
  Bytes& null() { return byte('n'); }
  Bytes& unchanged() { return byte('u'); }
  Bytes& text(std::string_view value) { return counted('t', value); }
  Bytes& binary(std::string_view value) { return counted('b', value); }
  Bytes& raw(std::string_view value) {
    out_.append(value);
    return *this;
  }

  operator std::string() const { return out_; }  // NOLINT(google-explicit-constructor)

 private:
  template <class Integer>
  Bytes& integer(Integer value) {
    append_big_endian(out_, value);
    return *this;
  }
  Bytes& counted(char kind, std::string_view value) {
    return byte(kind).int32(static_cast<std::uint32_t>(value.size())).raw(value);
  }

  std::string out_;
};

// One line per message, so that a row of a table can say what it expects.
struct Describe {
  static std::string tuple(const proto::Tuple& tuple) {
    std::string text;
    for (const auto& value : tuple) {
      if (!text.empty()) text += ' ';
      text += static_cast<char>(value.kind);
      if (value.has_bytes()) text += fmt::format(":{}", value.bytes);
    }
    return text;
  }

  std::string operator()(const BeginMessage& m) const {
    return fmt::format("begin {} at {} xid {}", to_string(m.commit_lsn), m.commit_time_usec, m.xid);
  }
  std::string operator()(const CommitMessage& m) const {
    return fmt::format("commit {} to {} at {}", to_string(m.commit_lsn), to_string(m.end_lsn),
                       m.commit_time_usec);
  }
  std::string operator()(const OriginMessage& m) const {
    return fmt::format("origin {} {}", to_string(m.commit_lsn), m.name);
  }
  std::string operator()(const RelationMessage& m) const {
    const auto& r = m.relation;
    auto text = fmt::format("xid {} relation {} {}.{} {}", m.xid, r.oid(), r.schema(), r.name(),
                            pb::ReplicaIdentity_Name(r.replica_identity()));
    for (const auto& c : r.columns()) {
      text += fmt::format(", {} {} {}{}", c.name(), c.type_oid(), c.type_modifier(),
                          c.key() ? " key" : "");
    }
    return text;
  }
  std::string operator()(const TypeMessage& m) const {
    return fmt::format("xid {} type {} {}.{}", m.xid, m.type.oid(), m.type.schema(), m.type.name());
  }
  std::string operator()(const RowMessage& m) const {
    return fmt::format("xid {} {} {} old[{}] new[{}]", m.xid, pb::RowOperation_Name(m.operation),
                       m.relation_oid, tuple(m.row.old_tuple), tuple(m.row.new_tuple));
  }
  std::string operator()(const TruncateMessage& m) const {
    return fmt::format("xid {} truncate {}{}{}", m.xid, fmt::join(m.relation_oids, " "),
                       m.cascade ? " cascade" : "", m.restart_identity ? " restart" : "");
  }
  std::string operator()(const LogicalMessage& m) const {
    return fmt::format("xid {} message {}{} {}={}", m.xid, to_string(m.lsn),
                       m.transactional ? " transactional" : "", m.prefix, m.content);
  }
  std::string operator()(const StreamStartMessage& m) const {
    return fmt::format("stream start {}{}", m.xid, m.first_segment ? " first" : "");
  }
  std::string operator()(const StreamStopMessage&) const { return "stream stop"; }
  std::string operator()(const StreamCommitMessage& m) const {
    return fmt::format("stream commit {} {} to {} at {}", m.xid, to_string(m.commit_lsn),
                       to_string(m.end_lsn), m.commit_time_usec);
  }
  std::string operator()(const StreamAbortMessage& m) const {
    return fmt::format("stream abort {} sub {} {} at {}", m.xid, m.subxid, to_string(m.abort_lsn),
                       m.abort_time_usec);
  }
};

inline std::string describe(const PgOutputMessage& message) {
  return std::visit(Describe{}, message);
}

inline std::string stream_start(std::uint32_t xid) { return Bytes('S').int32(xid).int8(1); }

// A valid message. `name` is how errors call it.
struct Sample {
  const char* title;
  const char* name;
  std::string bytes;
  std::string meaning;
};

// Messages that may stand outside streamed blocks and mean the same in every protocol version.
inline std::vector<Sample> plain_samples() {
  return {
      {"begin", "Begin", Bytes('B').int64(0x1600000010).int64(kTimeOnWire).int32(740),
       fmt::format("begin 16/10 at {} xid 740", kTime)},
      {"begin before 2000", "Begin", Bytes('B').int64(1).int64(-946'684'800'000'000).int32(3),
       "begin 0/1 at 0 xid 3"},
      {"commit", "Commit", Bytes('C').int8(0).int64(0x10).int64(0x30).int64(kTimeOnWire),
       fmt::format("commit 0/10 to 0/30 at {}", kTime)},
      {"origin", "Origin", Bytes('O').int64(0xABCD).string("here"), "origin 0/ABCD here"},
      {"logical message", "Message",
       Bytes('M').int8(1).int64(0x20).string("audit").int32(5).raw("hello"),
       "xid 0 message 0/20 transactional audit=hello"},
      {"logical message outside a transaction, empty", "Message",
       Bytes('M').int8(0).int64(0x20).string("").int32(0), "xid 0 message 0/20 ="},
  };
}

inline std::vector<Sample> stream_samples() {
  return {
      {"stream start, first segment", "Stream Start", stream_start(700), "stream start 700 first"},
      {"stream start, later segment", "Stream Start", Bytes('S').int32(700).int8(0),
       "stream start 700"},
      {"stream commit", "Stream Commit",
       Bytes('c').int32(700).int8(0).int64(0x10).int64(0x30).int64(kTimeOnWire),
       fmt::format("stream commit 700 0/10 to 0/30 at {}", kTime)},
  };
}

inline Sample short_abort() {
  return {"stream abort", "Stream Abort", Bytes('A').int32(700).int32(701),
          "stream abort 700 sub 701 0/0 at 0"};
}

inline Sample long_abort() {
  return {"stream abort with position", "Stream Abort",
          Bytes('A').int32(700).int32(701).int64(0x50).int64(kTimeOnWire),
          fmt::format("stream abort 700 sub 701 0/50 at {}", kTime)};
}

// A change begins with its kind and, inside a streamed block, an xid.
inline Bytes change(char kind, std::uint32_t xid) {
  Bytes bytes(kind);
  if (xid != 0) bytes.int32(xid);
  return bytes;
}

inline std::vector<Sample> schema_samples(std::uint32_t xid) {
  const auto begin = [&](char kind) { return change(kind, xid); };
  return {
      {"relation", "Relation",
       begin('R')
           .int32(16392)
           .string("public")
           .string("t")
           .byte('d')
           .int16(2)
           .column(1, "id", 23, 0xffffffff)
           .column(0, "price", 1700, 524294),
       fmt::format("xid {} relation 16392 public.t REPLICA_IDENTITY_DEFAULT, "
                   "id 23 -1 key, price 1700 524294",
                   xid)},
      {"relation of pg_catalog without columns", "Relation",
       begin('R').int32(1).string("").string("t").byte('n').int16(0),
       fmt::format("xid {} relation 1 pg_catalog.t REPLICA_IDENTITY_NOTHING", xid)},
      {"relation, identity full", "Relation",
       begin('R').int32(2).string("s").string("t").byte('f').int16(1).column(1, "", 25, 0xffffffff),
       fmt::format("xid {} relation 2 s.t REPLICA_IDENTITY_FULL,  25 -1 key", xid)},
      {"relation, identity index", "Relation",
       begin('R').int32(4294967295).string("s").string("t").byte('i').int16(0),
       fmt::format("xid {} relation 4294967295 s.t REPLICA_IDENTITY_INDEX", xid)},
      {"type", "Type", begin('Y').int32(16385).string("public").string("mood"),
       fmt::format("xid {} type 16385 public.mood", xid)},
      {"type of pg_catalog", "Type", begin('Y').int32(16390).string("").string("int4"),
       fmt::format("xid {} type 16390 pg_catalog.int4", xid)},
      {"truncate", "Truncate", begin('T').int32(1).int8(0).int32(16392),
       fmt::format("xid {} truncate 16392", xid)},
      {"truncate cascade, restart identity", "Truncate",
       begin('T').int32(2).int8(3).int32(16392).int32(16399),
       fmt::format("xid {} truncate 16392 16399 cascade restart", xid)},
      {"truncate restart identity", "Truncate", begin('T').int32(1).int8(2).int32(7),
       fmt::format("xid {} truncate 7 restart", xid)},
  };
}

inline std::vector<Sample> row_samples(std::uint32_t xid) {
  const auto begin = [&](char kind) { return change(kind, xid).int32(9); };
  const auto meaning = [&](std::string_view what) { return fmt::format("xid {} {}", xid, what); };
  return {
      {"insert, every column kind", "Insert",
       begin('I').byte('N').int16(4).text("one").null().unchanged().binary("\x01\x02"),
       meaning("INSERT 9 old[] new[t:one n u b:\x01\x02]")},
      {"insert, empty values", "Insert", begin('I').byte('N').int16(2).text("").binary(""),
       meaning("INSERT 9 old[] new[t: b:]")},
      {"insert into a table without columns", "Insert", begin('I').byte('N').int16(0),
       meaning("INSERT 9 old[] new[]")},
      {"update, same key", "Update", begin('U').byte('N').int16(2).text("1").unchanged(),
       meaning("UPDATE 9 old[] new[t:1 u]")},
      {"update, new key", "Update",
       begin('U').byte('K').int16(2).text("1").null().byte('N').int16(2).text("2").text("x"),
       meaning("UPDATE_KEY 9 old[t:1 n] new[t:2 t:x]")},
      {"update, identity full", "Update",
       begin('U').byte('O').int16(1).text("1").byte('N').int16(1).text("2"),
       meaning("UPDATE_FULL 9 old[t:1] new[t:2]")},
      {"delete by key", "Delete", begin('D').byte('K').int16(2).text("1").null(),
       meaning("DELETE_KEY 9 old[t:1 n] new[]")},
      {"delete, identity full", "Delete", begin('D').byte('O').int16(1).binary("1"),
       meaning("DELETE_FULL 9 old[b:1] new[]")},
  };
}

// The samples that one connection and place can meet.
struct Setting {
  std::string title;
  PgOutputOptions options;
  bool in_stream = false;
  std::vector<Sample> samples;
};

inline void append(std::vector<Sample>& to, std::vector<Sample> from) {
  std::move(from.begin(), from.end(), std::back_inserter(to));
}

inline Setting outside_block(std::string title, PgOutputOptions options) {
  Setting setting{std::move(title), options, false, plain_samples()};
  append(setting.samples, schema_samples(0));
  append(setting.samples, row_samples(0));
  if (options.proto_version >= 2) {
    append(setting.samples, stream_samples());
    setting.samples.push_back(options.streaming_parallel ? long_abort() : short_abort());
  }
  return setting;
}

inline Setting inside_block(std::string title, PgOutputOptions options) {
  Setting setting{std::move(title), options, true, schema_samples(701)};
  append(setting.samples, row_samples(701));
  append(setting.samples, {{"logical message", "Message",
                            Bytes('M').int32(701).int8(1).int64(0x20).string("p").int32(1).raw("c"),
                            "xid 701 message 0/20 transactional p=c"},
                           {"origin", "Origin", Bytes('O').int64(1).string("o"), "origin 0/1 o"},
                           {"stream stop", "Stream Stop", Bytes('E'), "stream stop"}});
  return setting;
}

inline std::vector<Setting> settings() {
  return {
      outside_block("protocol 1", kProto1),
      outside_block("protocol 2", kProto2),
      outside_block("protocol 3", kProto3),
      outside_block("protocol 4", kProto4),
      outside_block("protocol 4, parallel", kParallel),
      inside_block("protocol 2, streamed block", kProto2),
      inside_block("protocol 3, streamed block", kProto3),
      inside_block("protocol 4, streamed block", kProto4),
      inside_block("protocol 4, parallel, streamed block", kParallel),
  };
}

}  // namespace bitacora::wal::samples
