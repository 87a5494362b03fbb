// A sender's side of the wire without a master: a hub, a service and a listening server.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "transport/replication_service.h"
#include "transport/sender_connection.h"

namespace bitacora::transport {

struct SenderOptions {
  ServiceOptions service;
  TlsFiles tls;
  std::string host = "127.0.0.1";
  std::size_t queue_bytes_max = 1u << 20;
  CopySource* copies = nullptr;
  proto::BatchFilter::Takes takes = {};  // of every receiver
};

class SenderUnderTest {
 public:
  // Listens on a free port; throws when it cannot.
  explicit SenderUnderTest(SenderOptions options = {});

  const std::string& address() const { return address_; }
  SubscriptionHub& hub() { return hub_; }
  void stop() { server_.reset(); }
  Peer last_peer();                      // that said Hello
  void refuse_with(const Error& error);  // every Hello from now on

  Result<std::unique_ptr<SenderConnection>> dial(const std::string& receiver,
                                                 const std::string& instance = "one",
                                                 const TlsFiles& tls = {}) const;
  // Dials, and takes the newly joined into the reader's run. Throws when it is refused.
  std::unique_ptr<SenderConnection> connect(const std::string& receiver,
                                            const std::string& instance = "one");

 private:
  Result<Admission> admit(const pb::Hello& hello, const Peer& peer);

  const proto::BatchFilter::Takes takes_;
  std::mutex mutex_;
  Peer peer_;                     // guarded by mutex_
  std::optional<Error> refusal_;  // guarded by mutex_
  SubscriptionHub hub_;
  ReplicationService service_;
  std::string address_;
  std::unique_ptr<ReplicationServer> server_;
};

pb::Hello hello(const std::string& receiver, const std::string& instance = "one");

}  // namespace bitacora::transport
