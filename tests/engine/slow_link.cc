#include "tests/engine/slow_link.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <chrono>
#include <system_error>
#include <vector>

#include <fmt/format.h>

namespace bitacora::harness {
namespace {

constexpr int kLookMilliseconds = 50;
constexpr std::size_t kTicks = 1000 / kLookMilliseconds;  // in a second
constexpr std::size_t kChunkBytes = 64u << 10;
constexpr int kSmallBuffer = 4096;

void require(bool done, const char* what) {
  if (!done) throw std::system_error(errno, std::generic_category(), what);
}

sockaddr_in loopback(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

Descriptor dial(const std::string& target) {
  const auto colon = target.rfind(':');
  auto address = loopback(std::stoi(target.substr(colon + 1)));
  inet_pton(AF_INET, target.substr(0, colon).c_str(), &address.sin_addr);
  Descriptor socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVBUF, &kSmallBuffer, sizeof kSmallBuffer);
  const auto* generic = reinterpret_cast<const sockaddr*>(&address);
  if (::connect(socket.get(), generic, sizeof address) != 0) return {};
  return socket;
}

// At most so many bytes; 0: one end is gone.
std::size_t pass(int from, int to, std::size_t bytes_max) {
  std::vector<char> buffer(bytes_max);
  const auto got = ::recv(from, buffer.data(), buffer.size(), 0);
  for (ssize_t sent = 0; sent < got;) {
    const auto left = static_cast<std::size_t>(got - sent);
    const auto now = ::send(to, buffer.data() + sent, left, MSG_NOSIGNAL);
    if (now <= 0) return 0;
    sent += now;
  }
  return got > 0 ? static_cast<std::size_t>(got) : 0;
}

bool readable(int descriptor) {
  pollfd waiting{descriptor, POLLIN, 0};
  return ::poll(&waiting, 1, kLookMilliseconds) > 0;
}

void hang_up(const Descriptor& one, const Descriptor& other) {
  ::shutdown(one.get(), SHUT_RDWR);
  ::shutdown(other.get(), SHUT_RDWR);
}

}  // namespace

SlowLink::SlowLink(const std::string& target)
    : target_(target), listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  auto address = loopback(0);
  socklen_t length = sizeof address;
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  require(::bind(listener_.get(), generic, length) == 0, "bind");
  require(::listen(listener_.get(), 8) == 0, "listen");
  require(::getsockname(listener_.get(), generic, &length) == 0, "getsockname");
  port_ = ntohs(address.sin_port);
  accepting_ = std::jthread([this](const std::stop_token& stop) { accept(stop); });
}

std::string SlowLink::address() const { return fmt::format("127.0.0.1:{}", port_); }

void SlowLink::accept(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    if (!readable(listener_.get())) continue;
    Descriptor dialled(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    relays_.emplace_back([this, dialled = std::move(dialled)](const std::stop_token& ended) {
      relay(dialled, ended);
    });
  }
  relays_.clear();
}

void SlowLink::relay(const Descriptor& dialled, const std::stop_token& stop) {
  const auto target = dial(target_);
  const std::jthread there([&](const std::stop_token& ended) {
    while (!ended.stop_requested()) {
      if (readable(dialled.get()) && pass(dialled.get(), target.get(), kChunkBytes) == 0) break;
    }
    hang_up(dialled, target);
  });
  while (!stop.stop_requested()) {
    if (!readable(target.get())) continue;
    const std::size_t rate = bytes_per_second_;
    const auto share = rate == kFast ? kChunkBytes : std::max<std::size_t>(1, rate / kTicks);
    const auto passed = pass(target.get(), dialled.get(), share);
    if (passed == 0) break;
    passed_bytes_ += passed;
    if (rate != kFast) std::this_thread::sleep_for(std::chrono::milliseconds(kLookMilliseconds));
  }
  hang_up(dialled, target);
}

}  // namespace bitacora::harness
