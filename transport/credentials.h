// TLS with certificates on both sides; plaintext on loopback only.
#pragma once

#include <grpcpp/security/credentials.h>
#include <grpcpp/security/server_credentials.h>

#include <memory>
#include <string>

#include "base/error.h"

namespace bitacora::transport {

// Paths of PEM files; all three or none.
struct TlsFiles {
  std::string certificate;
  std::string key;
  std::string authority;  // that signed the other side's certificate

  bool given() const { return !certificate.empty() || !key.empty() || !authority.empty(); }
};

// True for 127.0.0.0/8, ::1 and localhost, with or without a port behind.
bool is_loopback(const std::string& address);

// kConfiguration: an unreadable file, only some of the files, or plaintext to an address that is
// not loopback.
Result<std::shared_ptr<grpc::ServerCredentials>> server_credentials(const TlsFiles& files,
                                                                    const std::string& listen);
Result<std::shared_ptr<grpc::ChannelCredentials>> client_credentials(const TlsFiles& files,
                                                                     const std::string& sender);

}  // namespace bitacora::transport
