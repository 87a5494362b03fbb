// Parts and batches as tests write them, and how they are told in words.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "proto/batch.h"
#include "proto/replication.pb.h"

namespace bitacora::proto {

using Parts = std::vector<pb::Part>;

inline pb::Part begin(std::uint32_t xid, std::uint64_t lsn) {
  pb::Part part;
  part.mutable_begin()->set_xid(static_cast<std::int32_t>(xid));
  part.mutable_begin()->set_commit_lsn(lsn);
  part.mutable_begin()->set_commit_time_usec(static_cast<std::int64_t>(lsn * 7));
  return part;
}
inline pb::Part commit(std::uint64_t lsn, std::uint64_t end) {
  pb::Part part;
  part.mutable_commit()->set_commit_lsn(lsn);
  part.mutable_commit()->set_end_lsn(end);
  return part;
}
inline pb::Part idle(std::uint64_t lsn) {
  pb::Part part;
  part.mutable_idle_position()->set_lsn(lsn);
  return part;
}
inline pb::Part relation(std::uint32_t oid, const std::string& name, std::uint32_t type_oid = 23) {
  pb::Part part;
  part.mutable_relation()->set_oid(oid);
  part.mutable_relation()->set_schema("shop");
  part.mutable_relation()->set_name(name);
  part.mutable_relation()->add_columns()->set_type_oid(type_oid);
  return part;
}
inline pb::Part type(std::uint32_t oid) {
  pb::Part part;
  part.mutable_type()->set_oid(oid);
  part.mutable_type()->set_name(fmt::format("type{}", oid));
  return part;
}
inline pb::Part rows(std::uint32_t oid, const std::string& tuples = "row") {
  pb::Part part;
  part.mutable_rows()->set_relation_oid(oid);
  part.mutable_rows()->set_count(1);
  part.mutable_rows()->set_tuples(tuples);
  return part;
}
inline pb::Part truncate(const std::vector<std::uint32_t>& oids) {
  pb::Part part;
  part.mutable_truncate()->mutable_relation_oids()->Assign(oids.begin(), oids.end());
  part.mutable_truncate()->set_cascade(true);
  return part;
}
inline pb::Part subtransaction(std::uint32_t xid) {
  pb::Part part;
  part.set_subtransaction(xid);
  return part;
}

inline std::string serialized(const Parts& parts) {
  pb::ChangeBatch batch;
  for (const auto& part : parts) *batch.add_parts() = part;
  return serialize_batch(batch);
}

inline EncodedBatch plain(const Parts& parts) {
  EncodedBatch batch{.bytes = serialized(parts)};
  for (const auto& part : parts) {
    if (part.has_begin()) batch.transaction_open = true;
    if (part.has_commit()) batch.transaction_open = false;
    if (part.has_commit()) batch.end_lsn = {part.commit().end_lsn()};
    if (part.has_idle_position()) batch.end_lsn = {part.idle_position().lsn()};
  }
  return batch;
}
// Of a transaction that an earlier batch began.
inline EncodedBatch middle(const Parts& parts) {
  auto batch = plain(parts);
  batch.transaction_open = !batch.end_lsn.valid();
  return batch;
}
inline EncodedBatch streamed(std::uint32_t xid, const Parts& parts) {
  return {.bytes = serialized(parts), .event = StreamEvent::kPart, .stream_xid = xid};
}
inline EncodedBatch stream_commit(std::uint32_t xid, std::uint64_t lsn, std::uint64_t end,
                                  Parts before = {}) {
  before.push_back(begin(xid, lsn));
  return {.bytes = serialized(before),
          .end_lsn = {end},
          .event = StreamEvent::kCommit,
          .stream_xid = xid,
          .closing = serialized({commit(lsn, end)})};
}
inline EncodedBatch stream_abort(std::uint32_t xid) {
  return {.event = StreamEvent::kAbort, .stream_xid = xid};
}

inline bool takes(const std::string& schema, const std::string& table) {
  return schema == "shop" && !table.starts_with("secret");
}

inline std::string told(const pb::Part& part) { return part.ShortDebugString(); }

// What a receiver sees of these batches, one line for each part.
inline void tell(const EncodedBatch& batch, std::vector<std::string>& lines) {
  const auto front = batch.event == StreamEvent::kPart ? fmt::format("{}: ", batch.stream_xid) : "";
  if (batch.event == StreamEvent::kAbort)
    lines.push_back(fmt::format("abort {}", batch.stream_xid));
  for (const auto* bytes : {&batch.bytes, &batch.closing}) {
    if (bytes == &batch.closing && batch.event == StreamEvent::kCommit)
      lines.push_back(fmt::format("commit {}", batch.stream_xid));
    const auto read = parse_batch(*bytes);
    ASSERT_NE(read, nullptr);
    for (const auto& part : read->parts()) lines.push_back(front + told(part));
  }
}

}  // namespace bitacora::proto
