#include "transport/sender_channel.h"

#include <grpcpp/create_channel.h>

#include <chrono>

#include <fmt/format.h>

namespace bitacora::transport {
namespace {

using Clock = std::chrono::system_clock;  // gRPC's deadlines are of this one

constexpr std::chrono::seconds kDialTimeout{4};
constexpr std::chrono::milliseconds kStopInterval{100};
constexpr int kKeepaliveTimeMs = 4000;  // with the timeout below a dead peer is noticed within 10 s
constexpr int kKeepaliveTimeoutMs = 5000;

grpc::ChannelArguments channel_arguments() {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveTimeMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  // Each connection is its own: a broken one is not handed out again from gRPC's global pool.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetMaxReceiveMessageSize(kMessageBytesMax);
  return arguments;
}

// gRPC's own wait cannot be stopped: it is asked in turns.
bool wait_for_connected(grpc::Channel& channel, const std::stop_token& stop) {
  const auto deadline = Clock::now() + kDialTimeout;
  while (!stop.stop_requested() && Clock::now() < deadline) {
    if (channel.WaitForConnected(Clock::now() + kStopInterval)) return true;
  }
  return false;
}

}  // namespace

Result<std::shared_ptr<grpc::Channel>> dial_sender(const std::string& sender, const TlsFiles& tls,
                                                   const std::stop_token& stop) {
  ASSIGN_OR_RETURN(auto credentials, client_credentials(tls, sender));
  auto channel = grpc::CreateCustomChannel(sender, credentials, channel_arguments());
  if (!wait_for_connected(*channel, stop)) {
    return Error{ErrorCode::kNetwork, fmt::format("no sender answers at {}", sender),
                 "check that it runs, the address, the firewall and, with TLS, both certificates",
                 Recovery::kRetry};
  }
  return channel;
}

}  // namespace bitacora::transport
