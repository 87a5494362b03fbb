// Who is at the other end of a call, as the certificate says that it showed.
#pragma once

#include <string>
#include <vector>

namespace grpc {
class ServerContext;
}

namespace bitacora::transport {

struct Peer {
  bool has_certificate = false;  // else the call came without TLS, over loopback
  // The common name, then the DNS names and URIs that it is valid for. All of them are what its
  // authority signed.
  std::vector<std::string> names = {};
};

// Called on a connection's thread.
Peer peer_of(const grpc::ServerContext& context);

}  // namespace bitacora::transport
