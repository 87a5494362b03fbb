#include "transport/status_mapping.h"

#include <fmt/format.h>

namespace bitacora::transport {
namespace {

// Binary metadata: a hint may hold any bytes.
constexpr const char* kHintKey = "bitacora-hint-bin";

}  // namespace

grpc::Status to_status(const Error& error, grpc::ServerContext& context) {
  if (!error.hint.empty()) context.AddTrailingMetadata(kHintKey, error.hint);
  const auto code = [&] {
    if (error.heals()) return grpc::StatusCode::UNAVAILABLE;
    switch (error.code) {
      case ErrorCode::kState:
        return grpc::StatusCode::FAILED_PRECONDITION;
      case ErrorCode::kConfiguration:
        return grpc::StatusCode::INVALID_ARGUMENT;
      case ErrorCode::kMaster:
        return grpc::StatusCode::ABORTED;
      default:
        return grpc::StatusCode::INTERNAL;
    }
  }();
  return {code, error.message};
}

Error from_status(const grpc::Status& status, const grpc::ClientContext& context) {
  Error error{
      ErrorCode::kNetwork, fmt::format("sender: {}", status.error_message()), {}, Recovery::kRetry};
  if (status.ok()) error.message = "the sender ended the connection";
  const auto& metadata = context.GetServerTrailingMetadata();
  if (const auto hint = metadata.find(kHintKey); hint != metadata.end()) {
    error.hint.assign(hint->second.data(), hint->second.size());
  }
  if (status.error_code() == grpc::StatusCode::FAILED_PRECONDITION) {
    error.code = ErrorCode::kState;
    error.recovery = Recovery::kStop;
  } else if (status.error_code() == grpc::StatusCode::INVALID_ARGUMENT) {
    error.code = ErrorCode::kConfiguration;
    error.recovery = Recovery::kStop;
  } else if (status.error_code() == grpc::StatusCode::ABORTED) {
    error.code = ErrorCode::kMaster;
    error.recovery = Recovery::kStop;
  }
  return error;
}

}  // namespace bitacora::transport
