#include "tests/engine/two_hosts.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include "base/check.h"

namespace bitacora::harness {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;

constexpr const char* kCard = "link0";
constexpr milliseconds kPoll{20};             // how late a stop is noticed at the most
constexpr milliseconds kBacklogMax{500};      // what waits for a slow wire; a router has no more
constexpr std::size_t kBytesMax = 16u << 20;  // under way at once, over all limits above

[[noreturn]] void fail(const char* what) {
  throw std::system_error(errno, std::generic_category(), what);
}

Descriptor opened(const char* path, int flags) {
  Descriptor file(::open(path, flags | O_CLOEXEC));
  if (!file.valid()) fail(path);
  return file;
}

Descriptor current_network() { return opened("/proc/thread-self/ns/net", O_RDONLY); }

// The thread goes back to `home` also when what it wanted to make elsewhere failed.
class WayBack {
 public:
  explicit WayBack(const Descriptor& home) : home_(home) {}
  WayBack(const WayBack&) = delete;
  WayBack& operator=(const WayBack&) = delete;
  ~WayBack() { CHECK(setns(home_.get(), CLONE_NEWNET) == 0); }

 private:
  const Descriptor& home_;
};

void configure(int socket, unsigned long what, ifreq& request, const char* complaint) {
  if (::ioctl(socket, what, &request) != 0) fail(complaint);
}

ifreq request_for(const char* interface) {
  ifreq request{};
  std::strncpy(request.ifr_name, interface, IFNAMSIZ - 1);
  return request;
}

ifreq address_request(const char* interface, const std::string& address) {
  sockaddr_in internet{};
  internet.sin_family = AF_INET;
  CHECK(inet_pton(AF_INET, address.c_str(), &internet.sin_addr) == 1);
  auto request = request_for(interface);
  std::memcpy(&request.ifr_addr, &internet, sizeof internet);
  return request;
}

void bring_up(int socket, const char* interface) {
  auto request = request_for(interface);
  request.ifr_flags = IFF_UP | IFF_RUNNING;
  configure(socket, SIOCSIFFLAGS, request, "bring a network interface up");
}

// In the network the thread is in.
Descriptor make_card(const std::string& address) {
  auto card = opened("/dev/net/tun", O_RDWR | O_NONBLOCK);
  auto made = request_for(kCard);
  made.ifr_flags = IFF_TUN | IFF_NO_PI;
  configure(card.get(), TUNSETIFF, made, "make a TUN interface");
  const Descriptor socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket.valid()) fail("a socket");
  auto own = address_request(kCard, address);
  configure(socket.get(), SIOCSIFADDR, own, "give an interface its address");
  auto mask = address_request(kCard, "255.255.255.0");
  configure(socket.get(), SIOCSIFNETMASK, mask, "give an interface its netmask");
  bring_up(socket.get(), kCard);
  bring_up(socket.get(), "lo");
  return card;
}

nanoseconds transmission_time(std::size_t bytes, double bits_per_second) {
  if (bits_per_second <= 0) return nanoseconds(0);
  return nanoseconds(static_cast<std::int64_t>(static_cast<double>(bytes) * 8e9 / bits_per_second));
}

}  // namespace

bool is_not_offered(const std::error_code& code) {
  const std::array codes{EPERM, EACCES, ENOENT, ENODEV, ENXIO, ENOSYS, EINVAL, ENOSPC};
  return std::find(codes.begin(), codes.end(), code.value()) != codes.end();
}

Host::Host(const std::string& address) {
  const auto home = current_network();
  if (::unshare(CLONE_NEWNET) != 0) fail("make a network namespace");
  const WayBack way_back(home);
  network_ = current_network();
  card_ = make_card(address);
}

Visit::Visit(const Host& host) : home_(current_network()) {
  if (::setns(host.network_.get(), CLONE_NEWNET) != 0) fail("enter a network namespace");
}

Visit::~Visit() { const WayBack way_back(home_); }

Wire::Wire(const Host& from, const Host& to)
    : from_(from.card()),
      to_(to.card()),
      carrier_([this](const std::stop_token& stop) { carry(stop); }) {}

void Wire::set(const WireQuality& quality) {
  const std::lock_guard lock(mutex_);
  quality_ = quality;
}

Traffic Wire::traffic() const {
  const std::lock_guard lock(mutex_);
  return traffic_;
}

void Wire::carry(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    wait();
    take_in();
    hand_over();
  }
}

// Until there is something to take in or to hand over.
void Wire::wait() const {
  nanoseconds rest = kPoll;
  if (!under_way_.empty())
    rest = std::clamp<nanoseconds>(under_way_.front().due - Clock::now(), nanoseconds(0), kPoll);
  const timespec timeout{0, rest.count()};
  pollfd sent{from_, POLLIN, 0};
  ::ppoll(&sent, 1, &timeout, nullptr);
}

void Wire::take_in() {
  std::array<char, 65536> packet;
  const auto size = ::read(from_, packet.data(), packet.size());
  if (size > 0) send({packet.data(), packet.data() + size});
}

void Wire::send(std::vector<char> packet) {
  const auto now = Clock::now();
  const std::lock_guard lock(mutex_);
  const auto starts = std::max(now, free_at_);
  if (std::bernoulli_distribution(quality_.loss)(random_) || starts - now > kBacklogMax ||
      under_way_bytes_ + packet.size() > kBytesMax) {
    ++traffic_.lost;
    return;
  }
  ++traffic_.packets;
  traffic_.bytes += packet.size();
  under_way_bytes_ += packet.size();
  free_at_ = starts + transmission_time(packet.size(), quality_.bits_per_second);
  auto due = free_at_ + quality_.delay;
  if (!under_way_.empty()) due = std::max(due, under_way_.back().due);
  under_way_.push_back({due, std::move(packet)});
}

void Wire::hand_over() {
  while (!under_way_.empty() && under_way_.front().due <= Clock::now()) {
    const auto& packet = under_way_.front().bytes;
    // A card that does not take it, for example of a host that is ending, loses it.
    static_cast<void>(::write(to_, packet.data(), packet.size()) < 0);
    under_way_bytes_ -= packet.size();
    under_way_.pop_front();
  }
}

}  // namespace bitacora::harness
