#include "transport/peer.h"

#include <grpc/grpc_security_constants.h>
#include <grpcpp/server_context.h>

namespace bitacora::transport {

Peer peer_of(const grpc::ServerContext& context) {
  Peer peer;
  const auto certificate = context.auth_context();
  if (!certificate) return peer;
  // One without any names is one too, which nobody knows.
  for (const auto& type :
       certificate->FindPropertyValues(GRPC_TRANSPORT_SECURITY_TYPE_PROPERTY_NAME))
    peer.has_certificate = peer.has_certificate || type == GRPC_SSL_TRANSPORT_SECURITY_TYPE;
  if (!peer.has_certificate) return peer;
  for (const char* property :
       {GRPC_X509_CN_PROPERTY_NAME, GRPC_PEER_DNS_PROPERTY_NAME, GRPC_PEER_URI_PROPERTY_NAME}) {
    for (const auto& value : certificate->FindPropertyValues(property)) {
      if (!value.empty()) peer.names.emplace_back(value.data(), value.size());
    }
  }
  return peer;
}

}  // namespace bitacora::transport
