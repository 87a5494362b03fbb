// Dialling the sender: what a Subscribe call and the copy calls have in common.
#pragma once

#include <grpcpp/channel.h>

#include <memory>
#include <stop_token>
#include <string>

#include "base/error.h"
#include "transport/credentials.h"

namespace bitacora::transport {

// Of a message either way: a Welcome, a plan, a request of a copy may list every table.
inline constexpr int kMessageBytesMax = 64 << 20;

// A connected channel. A sender that is gone is noticed within 10 s while a call is going on.
// Errors: kConfiguration (the TLS files); kNetwork that heals (nobody answers within 4 s, or a
// stop).
Result<std::shared_ptr<grpc::Channel>> dial_sender(const std::string& sender, const TlsFiles& tls,
                                                   const std::stop_token& stop);

}  // namespace bitacora::transport
