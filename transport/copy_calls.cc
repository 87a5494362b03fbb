#include "transport/copy_calls.h"

#include <chrono>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "base/interruptible_sleep.h"
#include "base/log.h"
#include "transport/copy_frames.h"
#include "transport/status_mapping.h"

namespace bitacora::transport {
namespace {

using TableStream = CopyCalls::TableStream;

constexpr std::chrono::milliseconds kWatchInterval{100};

Error receiver_gone() {
  return {ErrorCode::kNetwork, "the receiver went away", {}, Recovery::kRetry};
}

Error unexpected(const char* wanted) {
  return {ErrorCode::kConfiguration, fmt::format("a copy request that is not {}", wanted),
          "compare the versions of both sides"};
}

// Calls `stop` when the caller is gone, and again until it is destroyed: a cancel that comes just
// before a COPY begins ends nothing.
class CallerWatch {
 public:
  CallerWatch(grpc::ServerContext& context, std::function<void()> stop)
      : watching_([&context, stop = std::move(stop)](const std::stop_token& over) {
          while (interruptible_sleep(kWatchInterval, over)) {
            if (context.IsCancelled()) stop();
          }
        }) {}

 private:
  std::jthread watching_;
};

// One CopyTable call.
class TableCall {
 public:
  TableCall(CopySource& source, grpc::ServerContext& context, TableStream& stream,
            const CopyCallOptions& options)
      : source_(source),
        context_(context),
        stream_(stream),
        frames_(options.zstd_level, options.frames,
                [this](pb::Frame& frame) { return send_frame(frame); }) {}

  // Until the receiver wants no more.
  Result<void> run() {
    pb::CopyRequest request;
    if (!stream_.Read(&request)) return receiver_gone();
    if (!request.has_opening()) return unexpected("an opening");
    receiver_ = request.opening().caller().receiver();
    ASSIGN_OR_RETURN(parts_, source_.open(request.opening(), peer_of(context_)));
    const CallerWatch watch(context_, [this] { parts_->cancel(); });
    while (stream_.Read(&request)) {
      if (!request.has_part()) return unexpected("a part");
      RETURN_IF_ERROR(send_part(request.part()));
    }
    return {};
  }

  const std::string& receiver() const { return receiver_; }

 private:
  Result<void> send_part(const pb::CopyPart& part) {
    pb::CopyMessage message;
    ASSIGN_OR_RETURN(*message.mutable_end(),
                     parts_->read(
                         part, [this](std::string_view piece) { return frames_.add(piece); },
                         [this](const std::string& what) { tell_waiting(what); }));
    RETURN_IF_ERROR(frames_.flush());
    return write(message);
  }

  void tell_waiting(const std::string& what) {
    pb::CopyMessage message;
    message.set_waiting(what);
    if (!write(message).ok()) parts_->cancel();
  }

  Result<void> send_frame(pb::Frame& frame) {
    pb::CopyMessage message;
    message.mutable_frame()->Swap(&frame);
    return write(message);
  }

  Result<void> write(const pb::CopyMessage& message) {
    return stream_.Write(message) ? Result<void>{} : receiver_gone();
  }

  CopySource& source_;
  grpc::ServerContext& context_;
  TableStream& stream_;
  CopyFrames frames_;
  std::string receiver_;
  std::unique_ptr<CopyParts> parts_;
};

grpc::Status no_source() {
  return {grpc::StatusCode::UNIMPLEMENTED, "this sender makes no copies of tables"};
}

// What heals is asked for again and again, and who went away is not refused.
grpc::Status finish(const char* call, const std::string& receiver, grpc::ServerContext& context,
                    const Result<void>& result) {
  if (result.ok()) {
    spdlog::debug("event=copy_call_ended call={} receiver={}", call, receiver);
    return grpc::Status::OK;
  }
  const bool refused = !result.error().heals() && !context.IsCancelled();
  spdlog::log(refused ? spdlog::level::warn : spdlog::level::debug,
              "event={} call={} receiver={} peer={} reason=\"{}\"",
              refused ? "copy_call_refused" : "copy_call_ended", call, receiver, context.peer(),
              one_line(result.error()));
  return to_status(result.error(), context);
}

// The error of a Result whose value went elsewhere.
template <class T>
Result<void> outcome(const Result<T>& result) {
  return result.ok() ? Result<void>{} : result.error();
}

}  // namespace

grpc::Status CopyCalls::begin(grpc::ServerContext& context, const pb::BeginCopyRequest& request,
                              grpc::ServerWriter<pb::BeginCopyMessage>& writer) {
  if (source_ == nullptr) return no_source();
  std::stop_source stop;
  pb::BeginCopyMessage message;
  const auto tell_waiting = [&](const std::string& what) {
    message.set_waiting(what);
    if (!writer.Write(message)) stop.request_stop();
  };
  auto plan = [&] {
    const CallerWatch watch(context, [&stop] { stop.request_stop(); });
    return source_->begin(request, peer_of(context), tell_waiting, stop.get_token());
  }();
  auto result = outcome(plan);
  if (plan.ok()) {
    *message.mutable_plan() = *std::move(plan);
    if (!writer.Write(message)) result = receiver_gone();
  }
  return finish("BeginCopy", request.caller().receiver(), context, result);
}

grpc::Status CopyCalls::copy_table(grpc::ServerContext& context, TableStream& stream) {
  if (source_ == nullptr) return no_source();
  TableCall call(*source_, context, stream, options_);
  const auto result = call.run();
  return finish("CopyTable", call.receiver(), context, result);
}

grpc::Status CopyCalls::end(grpc::ServerContext& context, const pb::EndCopyRequest& request) {
  if (source_ == nullptr) return no_source();
  return finish("EndCopy", request.caller().receiver(), context,
                source_->end(request, peer_of(context)));
}

grpc::Status CopyCalls::dump_schema(grpc::ServerContext& context,
                                    const pb::DumpSchemaRequest& request,
                                    pb::DumpedSchema& schema) {
  if (source_ == nullptr) return no_source();
  std::stop_source stop;
  auto dumped = [&] {
    const CallerWatch watch(context, [&stop] { stop.request_stop(); });
    return source_->dump_schema(request, peer_of(context), stop.get_token());
  }();
  if (dumped.ok()) schema.Swap(&*dumped);
  return finish("DumpSchema", request.caller().receiver(), context, outcome(dumped));
}

grpc::Status CopyCalls::sequences(grpc::ServerContext& context,
                                  const pb::ReadSequencesRequest& request,
                                  pb::SequenceValues& values) {
  if (source_ == nullptr) return no_source();
  auto read = source_->sequences(request, peer_of(context));
  if (read.ok()) values.Swap(&*read);
  return finish("ReadSequences", request.caller().receiver(), context, outcome(read));
}

}  // namespace bitacora::transport
