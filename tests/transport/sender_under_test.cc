#include "tests/transport/sender_under_test.h"

#include <fmt/format.h>

#include <optional>
#include <stdexcept>

#include "engine/throwaway_cluster.h"
#include "proto/relation.h"

namespace bitacora::transport {

pb::Hello hello(const std::string& receiver, const std::string& instance) {
  pb::Hello hello;
  hello.set_wire_version(proto::kWireVersion);
  hello.set_stream("main");
  hello.set_receiver(receiver);
  hello.set_instance(instance);
  return hello;
}

SenderUnderTest::SenderUnderTest(SenderOptions options)
    : takes_(std::move(options.takes)),
      hub_({.queue_bytes_max = options.queue_bytes_max}, [] {}),
      service_(
          hub_, [this](const pb::Hello& hello, const Peer& peer) { return admit(hello, peer); },
          [] {
            pb::Heartbeat heartbeat;
            heartbeat.set_wal_lsn(4711);
            return heartbeat;
          },
          options.service, options.copies) {
  const auto port = engine::free_loopback_port();
  if (!port.ok()) throw std::runtime_error(one_line(port.error()));
  address_ = fmt::format("{}:{}", options.host, *port);
  auto server = ReplicationServer::start(address_, options.tls, service_);
  if (!server.ok()) throw std::runtime_error(one_line(server.error()));
  server_ = std::move(server).value();
}

Peer SenderUnderTest::last_peer() {
  const std::lock_guard lock(mutex_);
  return peer_;
}

void SenderUnderTest::refuse_with(const Error& error) {
  const std::lock_guard lock(mutex_);
  refusal_ = error;
}

Result<Admission> SenderUnderTest::admit(const pb::Hello& hello, const Peer& peer) {
  {
    const std::lock_guard lock(mutex_);
    peer_ = peer;
    if (refusal_) return *refusal_;
  }
  ASSIGN_OR_RETURN(auto subscription,
                   hub_.join(hello.receiver(), hello.instance(), MasterLsn{hello.resume_lsn()}));
  Admission admission;
  admission.subscription = std::move(subscription);
  admission.takes = takes_;
  admission.welcome.set_wire_version(proto::kWireVersion);
  admission.welcome.set_start_lsn(hello.resume_lsn());
  admission.welcome.set_server_version(150000);
  return admission;
}

Result<std::unique_ptr<SenderConnection>> SenderUnderTest::dial(const std::string& receiver,
                                                                const std::string& instance,
                                                                const TlsFiles& tls) const {
  return SenderConnection::open(address_, tls, hello(receiver, instance));
}

std::unique_ptr<SenderConnection> SenderUnderTest::connect(const std::string& receiver,
                                                           const std::string& instance) {
  auto connection = dial(receiver, instance);
  if (!connection.ok()) throw std::runtime_error(one_line(connection.error()));
  hub_.activate();
  return std::move(connection).value();
}

}  // namespace bitacora::transport
