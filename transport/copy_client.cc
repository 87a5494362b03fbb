#include "transport/copy_client.h"

#include <grpcpp/client_context.h>

#include <chrono>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "transport/frame_codec.h"
#include "transport/sender_channel.h"
#include "transport/status_mapping.h"

namespace bitacora::transport {
namespace {

using Stub = pb::Replication::Stub;

constexpr std::chrono::seconds kQuestionTimeout{30};
constexpr std::chrono::minutes kDumpTimeout{10};  // pg_dump of very many tables takes minutes

// A sender without the call does not get it by being asked again.
Error ending(const grpc::Status& status, const grpc::ClientContext& context) {
  auto error = from_status(status, context);
  if (status.error_code() == grpc::StatusCode::UNIMPLEMENTED) {
    error.code = ErrorCode::kConfiguration;
    error.recovery = Recovery::kStop;
    error.hint = "start a sender of this version";
  }
  return error;
}

template <class Request, class Reply>
Result<Reply> ask(Stub& stub,
                  grpc::Status (Stub::*call)(grpc::ClientContext*, const Request&, Reply*),
                  const Request& request, std::chrono::seconds timeout,
                  const std::stop_token& stop) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + timeout);
  const std::stop_callback cancel_on_stop(stop, [&context] { context.TryCancel(); });
  Reply reply;
  const auto status = (stub.*call)(&context, request, &reply);
  if (!status.ok()) return ending(status, context);
  return reply;
}

// One CopyTable call.
class TableReader final : public CopyParts {
 public:
  explicit TableReader(Stub& stub) : stream_(stub.CopyTable(&context_)) {}

  ~TableReader() override {
    if (!ended_) give_up(Error{});
  }

  Result<void> open(const pb::CopyOpening& opening) {
    pb::CopyRequest request;
    *request.mutable_opening() = opening;
    return write(request);
  }

  Result<pb::CopyPartEnd> read(const pb::CopyPart& part, const CopySink& sink,
                               const OnWaiting& waiting) override {
    if (ended_) return *ended_;
    pb::CopyRequest request;
    *request.mutable_part() = part;
    RETURN_IF_ERROR(write(request));
    auto end = take_part(sink, waiting);
    if (!end.ok() && !ended_) return give_up(end.error());
    return end;
  }

  void cancel() override { context_.TryCancel(); }

 private:
  Result<pb::CopyPartEnd> take_part(const CopySink& sink, const OnWaiting& waiting) {
    std::uint64_t bytes = 0;
    while (stream_->Read(&message_)) {
      if (message_.has_end()) return checked(message_.end(), bytes);
      if (message_.has_waiting()) waiting(message_.waiting());
      if (!message_.has_frame()) continue;
      ASSIGN_OR_RETURN(const bool complete, decoder_.decode(message_.frame()));
      if (!complete) continue;
      bytes += decoder_.batch().size();
      RETURN_IF_ERROR(sink(decoder_.batch()));
    }
    return finish();
  }

  static Result<pb::CopyPartEnd> checked(const pb::CopyPartEnd& end, std::uint64_t bytes) {
    if (end.bytes() == bytes) return end;
    return Error{ErrorCode::kNetwork,
                 fmt::format("a part of a table has {} bytes, {} came", end.bytes(), bytes),
                 "it heals by reading the part again; if it comes back, compare the versions of "
                 "both sides",
                 Recovery::kRetry};
  }

  Result<void> write(const pb::CopyRequest& request) {
    if (stream_->Write(request)) return {};
    return finish();
  }

  // The stream is at its end: why.
  Error finish() {
    ended_ = ending(stream_->Finish(), context_);
    return *ended_;
  }

  // The rest is not wanted.
  Error give_up(Error error) {
    context_.TryCancel();
    stream_->Finish();
    ended_ = std::move(error);
    return *ended_;
  }

  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<pb::CopyRequest, pb::CopyMessage>> stream_;
  FrameDecoder decoder_;
  pb::CopyMessage message_;     // reused: a frame is large
  std::optional<Error> ended_;  // the stream is finished, every further read answers this
};

}  // namespace

Result<std::unique_ptr<CopyClient>> CopyClient::dial(const std::string& sender, const TlsFiles& tls,
                                                     const std::stop_token& stop) {
  ASSIGN_OR_RETURN(auto channel, dial_sender(sender, tls, stop));
  return std::unique_ptr<CopyClient>(new CopyClient(std::move(channel)));
}

CopyClient::CopyClient(std::shared_ptr<grpc::Channel> channel)
    : channel_(std::move(channel)), stub_(pb::Replication::NewStub(channel_)) {}

Result<pb::CopyPlan> CopyClient::begin(const pb::BeginCopyRequest& request,
                                       const OnWaiting& waiting, const std::stop_token& stop) {
  grpc::ClientContext context;
  const std::stop_callback cancel_on_stop(stop, [&context] { context.TryCancel(); });
  const auto reader = stub_->BeginCopy(&context, request);
  std::optional<pb::CopyPlan> plan;
  pb::BeginCopyMessage message;
  while (reader->Read(&message)) {
    if (message.has_waiting()) waiting(message.waiting());
    if (message.has_plan()) plan = std::move(*message.mutable_plan());
  }
  const auto status = reader->Finish();
  if (!status.ok() || !plan) return ending(status, context);
  return *std::move(plan);
}

Result<std::unique_ptr<CopyParts>> CopyClient::open(const pb::CopyOpening& opening) {
  auto reader = std::make_unique<TableReader>(*stub_);
  RETURN_IF_ERROR(reader->open(opening));
  return std::unique_ptr<CopyParts>(std::move(reader));
}

Result<void> CopyClient::end(const pb::EndCopyRequest& request, const std::stop_token& stop) {
  const auto reply = ask(*stub_, &Stub::EndCopy, request, kQuestionTimeout, stop);
  return reply.ok() ? Result<void>{} : reply.error();
}

Result<pb::DumpedSchema> CopyClient::dump_schema(const pb::DumpSchemaRequest& request,
                                                 const std::stop_token& stop) {
  return ask(*stub_, &Stub::DumpSchema, request, kDumpTimeout, stop);
}

Result<pb::SequenceValues> CopyClient::sequences(const pb::ReadSequencesRequest& request,
                                                 const std::stop_token& stop) {
  return ask(*stub_, &Stub::ReadSequences, request, kQuestionTimeout, stop);
}

}  // namespace bitacora::transport
