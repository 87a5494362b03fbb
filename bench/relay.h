// A TCP relay on loopback that counts what two ends say to each other: the bytes that their sockets
// carry, without what TCP and IP add.
#pragma once

#include <atomic>
#include <cstdint>
#include <list>
#include <stop_token>
#include <string>
#include <thread>

#include "base/descriptor.h"

namespace bitacora::bench {

struct Traffic {
  std::uint64_t to_server = 0;
  std::uint64_t to_client = 0;

  std::uint64_t sum() const { return to_server + to_client; }
  Traffic operator-(const Traffic& earlier) const {
    return {to_server - earlier.to_server, to_client - earlier.to_client};
  }
};

// Takes any number of connections. A thread accepts, and two carry each connection, so that neither
// direction waits for the other.
class Relay {
 public:
  // To what listens on this port of 127.0.0.1. Throws when it cannot listen itself.
  explicit Relay(int server_port);
  Relay(const Relay&) = delete;
  Relay& operator=(const Relay&) = delete;
  ~Relay();  // cuts what is connected

  int port() const { return port_; }
  std::string address() const;
  Traffic traffic() const { return {to_server_, to_client_}; }  // so far, of all connections

 private:
  struct Connection {
    Descriptor client;
    Descriptor server;
    std::jthread to_server = {};
    std::jthread to_client = {};
  };

  void accept_until(const std::stop_token& stop);
  void connect(Descriptor client);

  const int server_port_;
  int port_ = 0;
  Descriptor listener_;
  std::atomic<std::uint64_t> to_server_{0};
  std::atomic<std::uint64_t> to_client_{0};
  std::list<Connection> connections_;  // the accepting thread's
  std::jthread accepting_;
};

}  // namespace bitacora::bench
