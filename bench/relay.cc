#include "bench/relay.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <system_error>
#include <utility>
#include <vector>

#include "engine/throwaway_cluster.h"

namespace bitacora::bench {
namespace {

constexpr int kLookMilliseconds = 50;  // at `stop`
constexpr std::size_t kPieceBytes = 64u << 10;

[[noreturn]] void fail(const char* what) {
  throw std::system_error(errno, std::generic_category(), fmt::format("relay: {}", what));
}

sockaddr_in loopback(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

// What bind() and connect() ask for.
const sockaddr* generic(const sockaddr_in& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

Descriptor tcp_socket() {
  Descriptor made(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!made.valid()) fail("socket");
  return made;
}

// What one end writes goes to the other as it came.
void send_at_once(const Descriptor& end) {
  const int on = 1;
  ::setsockopt(end.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

bool send_all(int to, const char* bytes, std::size_t count) {
  while (count > 0) {
    const auto sent = ::send(to, bytes, count, MSG_NOSIGNAL);
    if (sent < 0) return false;
    bytes += sent;
    count -= static_cast<std::size_t>(sent);
  }
  return true;
}

// Until either end has had enough.
void carry(int from, int to, std::atomic<std::uint64_t>& counted) {
  std::vector<char> piece(kPieceBytes);
  for (;;) {
    const auto received = ::recv(from, piece.data(), piece.size(), 0);
    if (received <= 0) break;
    counted += static_cast<std::uint64_t>(received);
    if (!send_all(to, piece.data(), static_cast<std::size_t>(received))) break;
  }
  ::shutdown(to, SHUT_WR);
  ::shutdown(from, SHUT_RD);
}

}  // namespace

Relay::Relay(int server_port)
    : server_port_(server_port),
      port_(engine::free_loopback_port().value()),
      listener_(tcp_socket()) {
  const auto address = loopback(port_);
  if (::bind(listener_.get(), generic(address), sizeof address) != 0) fail("bind");
  if (::listen(listener_.get(), SOMAXCONN) != 0) fail("listen");
  accepting_ = std::jthread([this](const std::stop_token& stop) { accept_until(stop); });
}

Relay::~Relay() {
  accepting_.request_stop();
  accepting_.join();
  for (const auto& connection : connections_) {
    ::shutdown(connection.client.get(), SHUT_RDWR);
    ::shutdown(connection.server.get(), SHUT_RDWR);
  }
}

std::string Relay::address() const { return fmt::format("127.0.0.1:{}", port_); }

void Relay::accept_until(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    pollfd listening{listener_.get(), POLLIN, 0};
    if (::poll(&listening, 1, kLookMilliseconds) != 1) continue;
    Descriptor client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (client.valid()) connect(std::move(client));
  }
}

// A server that does not listen is what the client sees of a closed connection.
void Relay::connect(Descriptor client) {
  auto server = tcp_socket();
  const auto address = loopback(server_port_);
  if (::connect(server.get(), generic(address), sizeof address) != 0) return;
  send_at_once(client);
  send_at_once(server);
  auto& made = connections_.emplace_back(std::move(client), std::move(server));
  const int client_end = made.client.get();
  const int server_end = made.server.get();
  made.to_server = std::jthread([=, this] { carry(client_end, server_end, to_server_); });
  made.to_client = std::jthread([=, this] { carry(server_end, client_end, to_client_); });
}

}  // namespace bitacora::bench
