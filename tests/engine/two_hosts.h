// Two hosts and the wires between them, as network namespaces of this process. What they send each
// other passes through us, who lose, delay or slow it down: no module of the kernel's traffic
// control is needed, only root and /dev/net/tun. Nothing has a name outside the process, so that
// nothing is left behind however it ends.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <random>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "base/descriptor.h"

namespace bitacora::harness {

// A network namespace with a loopback of its own and a card with one address.
class Host {
 public:
  // `address` in its /24. Throws std::system_error, which says what was not allowed.
  explicit Host(const std::string& address);

  // A read() is one IP packet that the host sends, a write() one that it gets. Does not block.
  int card() const { return card_.get(); }

 private:
  friend class Visit;

  Descriptor network_;
  Descriptor card_;
};

// What a system says that has no such thing, or not for us or in a container. Anything else is a
// failure of ours.
bool is_not_offered(const std::error_code& code);

// While it lives, its thread is on the host: the processes it starts and the sockets it opens are
// the host's. Files, and Unix sockets with them, are the same everywhere.
class Visit {
 public:
  explicit Visit(const Host& host);
  Visit(const Visit&) = delete;
  Visit& operator=(const Visit&) = delete;
  ~Visit();

 private:
  Descriptor home_;
};

struct WireQuality {
  double loss = 0;                     // part of the packets; 1 loses all, and nobody is told
  std::chrono::milliseconds delay{0};  // one way
  double bits_per_second = 0;          // 0: as fast as we can
};

struct Traffic {
  std::uint64_t packets = 0;
  std::uint64_t bytes = 0;
  std::uint64_t lost = 0;  // packets
};

// Carries packets one way, in order, from its own thread. Thread-safe. Both hosts outlive it.
class Wire {
 public:
  Wire(const Host& from, const Host& to);

  void set(const WireQuality& quality);  // for the packets sent from now on
  Traffic traffic() const;               // since the beginning

 private:
  using Clock = std::chrono::steady_clock;
  struct Packet {
    Clock::time_point due;
    std::vector<char> bytes;
  };

  void carry(const std::stop_token& stop);
  void wait() const;
  void take_in();
  void send(std::vector<char> packet);
  void hand_over();

  const int from_;
  const int to_;
  std::minstd_rand random_{20261123};  // the same packets in every run, as far as they are the same
  std::deque<Packet> under_way_;
  std::size_t under_way_bytes_ = 0;
  Clock::time_point free_at_;  // when the last bit of what was sent so far is on the wire
  mutable std::mutex mutex_;
  WireQuality quality_;  // guarded by mutex_
  Traffic traffic_;      // guarded by mutex_
  std::jthread carrier_;
};

}  // namespace bitacora::harness
