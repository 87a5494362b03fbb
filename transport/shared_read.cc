#include "transport/shared_read.h"

#include <algorithm>

#include "base/check.h"

namespace bitacora::transport {

using proto::StreamEvent;

void SharedRead::begin(MasterLsn start) {
  position_ = start;
  transaction_open_ = false;
  open_streams_.clear();
  descriptions_ = {};
}

void SharedRead::advance(const proto::EncodedBatch& batch) {
  position_ = std::max(position_, batch.end_lsn);
  transaction_open_ = batch.transaction_open;
  if (batch.described) descriptions_.take_in(*batch.described);
  if (batch.event == StreamEvent::kNone) return;
  if (batch.event == StreamEvent::kPart) {
    open_streams_.insert(batch.stream_xid);
  } else {
    open_streams_.erase(batch.stream_xid);
  }
}

void ReceiverCursor::come_in(const std::set<std::uint32_t>& open_streams) {
  CHECK(between_transactions());
  missing_ = open_streams;
}

Delivery ReceiverCursor::delivery(const proto::EncodedBatch& batch) const {
  const bool had_before =
      !batch.transaction_open && batch.end_lsn.valid() && batch.end_lsn <= position_;
  if (batch.event == StreamEvent::kNone) {
    // Of a transaction that comes in parts the end must follow the beginning.
    return had_before && !in_transaction_ ? Delivery::kLeaveOut : Delivery::kPut;
  }
  if (!missing_.contains(batch.stream_xid)) return Delivery::kPut;
  const bool lacks_it = batch.event == StreamEvent::kCommit && !had_before;
  return lacks_it ? Delivery::kReadAlone : Delivery::kLeaveOut;
}

void ReceiverCursor::put(const proto::EncodedBatch& batch) {
  position_ = std::max(position_, batch.end_lsn);
  in_transaction_ = batch.transaction_open;
  if (batch.event == StreamEvent::kPart) {
    streams_.insert(batch.stream_xid);
  } else {
    streams_.erase(batch.stream_xid);
  }
}

void ReceiverCursor::leave_out(const proto::EncodedBatch& batch) {
  CHECK(!in_transaction_);
  if (batch.event != StreamEvent::kPart) missing_.erase(batch.stream_xid);
}

MasterLsn common_start(const std::vector<MasterLsn>& positions, const CompanyRules& rules) {
  CHECK(!positions.empty());
  const auto [last, first] = std::minmax_element(positions.begin(), positions.end());
  if (!rules.can_read_alone) return *last;
  auto start = *first;
  for (const auto position : positions) {
    if (bytes_between(position, *first) <= rules.near_bytes) start = std::min(start, position);
  }
  return start;
}

Entry entry(const SharedRead& common, MasterLsn position, const CompanyRules& rules) {
  if (position < common.position())
    return rules.can_read_alone ? Entry::kReadAlone : Entry::kRestart;
  if (rules.can_read_alone && bytes_between(common.position(), position) > rules.near_bytes)
    return Entry::kRestart;
  // Who lacks the beginning of a stream reads that transaction alone when it is committed.
  if (common.at_boundary() && !rules.can_read_alone && !common.open_streams().empty())
    return Entry::kRestart;
  if (common.at_boundary()) return Entry::kComeIn;
  return rules.can_read_alone ? Entry::kReadAlone : Entry::kWait;
}

WayBack way_back(const SharedRead& common, MasterLsn position, const CompanyRules& rules) {
  if (!common.at_boundary()) return WayBack::kFar;
  if (position >= common.position()) return WayBack::kNow;
  return bytes_between(position, common.position()) <= rules.near_bytes ? WayBack::kHold
                                                                        : WayBack::kFar;
}

}  // namespace bitacora::transport
