// Errors across gRPC and back: the code as a status code, the hint in trailing metadata.
#pragma once

#include <grpcpp/client_context.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/status.h>

#include "base/error.h"

namespace bitacora::transport {

grpc::Status to_status(const Error& error, grpc::ServerContext& context);

// UNAVAILABLE and everything the network itself reports heals; what the sender refused does not.
Error from_status(const grpc::Status& status, const grpc::ClientContext& context);

}  // namespace bitacora::transport
