#include "transport/receiver_session.h"

#include <utility>

#include <fmt/format.h>

#include "proto/relation.h"

namespace bitacora::transport {
namespace {

// Frames of unapplied changes that are acknowledged together: few enough for the sender's window.
constexpr std::uint64_t kFramesPerAck = 8;

bool open_after(bool open, const pb::ChangeBatch& changes) {
  for (const auto& part : changes.parts()) {
    if (part.has_begin()) open = true;
    if (part.has_commit()) open = false;
  }
  return open;
}

void describe(const pb::ChangeBatch& changes, std::vector<ReceiverAction>& actions) {
  for (const auto& part : changes.parts()) {
    if (part.has_relation()) actions.push_back(DescribeRelation{part.relation()});
    if (part.has_type()) actions.push_back(DescribeType{part.type()});
  }
}

}  // namespace

Result<pb::Welcome> read_welcome(pb::SenderMessage message) {
  if (!message.has_welcome()) {
    return Error{
        ErrorCode::kNetwork, "the sender's first message was no Welcome", {}, Recovery::kRetry};
  }
  pb::Welcome welcome = std::move(*message.mutable_welcome());
  if (welcome.wire_version() != proto::kWireVersion) {
    return Error{ErrorCode::kConfiguration,
                 fmt::format("the sender speaks wire version {}, the receiver {}",
                             welcome.wire_version(), proto::kWireVersion),
                 "run the same version of bitacora on both sides"};
  }
  return welcome;
}

ReceiverSession::ReceiverSession(const ReceiverName& name,
                                 const std::optional<pb::Identity>& identity, MasterLsn resume,
                                 std::uint32_t timeline) {
  hello_.set_wire_version(proto::kWireVersion);
  hello_.set_stream(name.stream);
  hello_.set_receiver(name.receiver);
  hello_.set_instance(name.instance);
  hello_.mutable_tables()->Assign(name.tables.begin(), name.tables.end());
  if (identity) *hello_.mutable_identity() = *identity;
  hello_.set_resume_lsn(resume.value);
  hello_.set_timeline(timeline);
}

Result<MasterLsn> ReceiverSession::on_welcome(const pb::Welcome& welcome) const {
  const MasterLsn asked{hello_.resume_lsn()};
  const MasterLsn start{welcome.start_lsn()};
  if (!asked.valid() || start == asked) return start;
  return Error{ErrorCode::kState,
               fmt::format("asked for changes from {}, the sender begins at {}", to_string(asked),
                           to_string(start)),
               "run the same version of bitacora on both sides"};
}

std::vector<ReceiverAction> ReceiverSession::on(SenderEvent event) {
  return std::visit([this](auto& concrete) { return on_event(std::move(concrete)); }, event);
}

ReceiverSession::Actions ReceiverSession::on_event(ReceivedFrame received) {
  if (received.changes) transaction_open_ = open_after(transaction_open_, *received.changes);
  const NoteReceived note{++frames_, MasterLsn{received.frame.end_lsn()}};
  Actions actions;
  actions.push_back(AppendFrame{std::move(received.frame), transaction_open_});
  if (received.changes) {
    describe(*received.changes, actions);
    actions.push_back(
        PutBatch{std::move(received.changes), received.bytes, note.end_lsn, transaction_open_});
  }
  actions.push_back(note);
  return actions;
}

ReceiverSession::Actions ReceiverSession::on_event(StreamedFrame streamed) {
  described_[streamed.xid].MergeFrom(streamed.described);
  Actions actions;
  actions.push_back(AppendStreamed{std::move(streamed)});
  actions.push_back(NoteReceived{++frames_, {}});
  return actions;
}

// What it describes holds for the transactions after it, as on the master.
ReceiverSession::Actions ReceiverSession::on_event(StreamCommitted committed) {
  Actions actions;
  actions.push_back(SpliceStreamed{committed.xid});
  if (const auto described = described_.extract(committed.xid); !described.empty())
    describe(described.mapped(), actions);
  return actions;
}

ReceiverSession::Actions ReceiverSession::on_event(StreamAborted aborted) {
  described_.erase(aborted.xid);
  Actions actions;
  actions.push_back(DropStreamed{aborted.xid});
  return actions;
}

bool worth_acknowledging(const ReceiverProgress& acknowledged, const ReceiverProgress& now) {
  return now.applied != acknowledged.applied || now.flushed != acknowledged.flushed ||
         now.frames >= acknowledged.frames + kFramesPerAck;
}

pb::Ack acknowledgement(const ReceiverProgress& progress) {
  pb::Ack ack;
  ack.set_frames(progress.frames);
  ack.set_received_lsn(progress.received.value);
  ack.set_flushed_lsn(progress.flushed.value);
  ack.set_applied_lsn(progress.applied.value);
  return ack;
}

}  // namespace bitacora::transport
