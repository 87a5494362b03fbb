#include "transport/credentials.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <iterator>

namespace bitacora::transport {
namespace {

struct Pem {
  std::string certificate;
  std::string key;
  std::string authority;
};

Result<std::string> read_pem(const std::string& path, const char* option) {
  std::string text;
  std::error_code ignored;
  if (!std::filesystem::is_directory(path, ignored)) {  // reading one throws
    std::ifstream file(path, std::ios::binary);
    text.assign(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  if (text.find("-----BEGIN ") != std::string::npos) return text;
  return Error{ErrorCode::kConfiguration,
               fmt::format("{} {}: not a readable PEM file", option, path),
               "check the path, its permissions and that the file begins with -----BEGIN"};
}

Result<Pem> read_files(const TlsFiles& files) {
  if (files.certificate.empty() || files.key.empty() || files.authority.empty()) {
    return Error{ErrorCode::kConfiguration,
                 "TLS needs a certificate, its key and the authority of the other side",
                 "give all of --tls-cert, --tls-key and --tls-ca"};
  }
  ASSIGN_OR_RETURN(auto certificate, read_pem(files.certificate, "--tls-cert"));
  ASSIGN_OR_RETURN(auto key, read_pem(files.key, "--tls-key"));
  ASSIGN_OR_RETURN(auto authority, read_pem(files.authority, "--tls-ca"));
  return Pem{std::move(certificate), std::move(key), std::move(authority)};
}

Error plaintext_refused(const std::string& address) {
  return {ErrorCode::kConfiguration,
          fmt::format("{} is not a loopback address and no certificates are given", address),
          "give --tls-cert, --tls-key and --tls-ca on both sides"};
}

}  // namespace

bool is_loopback(const std::string& address) {
  if (address == "::1" || address == "[::1]" || address.starts_with("[::1]:")) return true;
  const std::string host = address.substr(0, address.find(':'));
  in_addr number{};  // a name may begin with 127. too
  return host == "localhost" ||
         (host.starts_with("127.") && ::inet_pton(AF_INET, host.c_str(), &number) == 1);
}

Result<std::shared_ptr<grpc::ServerCredentials>> server_credentials(const TlsFiles& files,
                                                                    const std::string& listen) {
  if (!files.given()) {
    if (!is_loopback(listen)) return plaintext_refused(listen);
    return grpc::InsecureServerCredentials();
  }
  ASSIGN_OR_RETURN(auto pem, read_files(files));
  grpc::SslServerCredentialsOptions options(
      GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  options.pem_root_certs = pem.authority;
  options.pem_key_cert_pairs.push_back({pem.key, pem.certificate});
  return grpc::SslServerCredentials(options);
}

Result<std::shared_ptr<grpc::ChannelCredentials>> client_credentials(const TlsFiles& files,
                                                                     const std::string& sender) {
  if (!files.given()) {
    if (!is_loopback(sender)) return plaintext_refused(sender);
    return grpc::InsecureChannelCredentials();
  }
  ASSIGN_OR_RETURN(auto pem, read_files(files));
  return grpc::SslCredentials({pem.authority, pem.key, pem.certificate});
}

}  // namespace bitacora::transport
