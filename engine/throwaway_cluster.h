// A PostgreSQL server of one's own, for the demo, the tests and the benchmarks: made in a temporary
// directory, on loopback, removed with everything in it when the object dies.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "base/error.h"

namespace bitacora::engine {

struct ClusterOptions {
  // Of initdb and postgres; empty: the newest found under /usr/lib/postgresql.
  std::string bin_dir;
  // On top of wal_level=logical, trust on loopback and the socket, small buffers; these win.
  std::map<std::string, std::string> settings;
  std::vector<std::string> initdb_arguments;  // for example --encoding=LATIN1; these win too
};

// A loopback port nobody listens on. Below the range from which the kernel numbers outgoing
// connections, and reserved until this process ends, so that a server which stops and starts again
// finds it free: no other call answers it, here or in another process. kConfiguration when none is
// free.
Result<int> free_loopback_port();

// Runs as the user `postgres` when we are root (servers refuse to run as root), else as ourselves.
// Not thread-safe.
class ThrowawayCluster {
 public:
  // initdb and start; a free loopback port is found. kMaster with the server's own words when it
  // does not come up.
  static Result<ThrowawayCluster> make(const std::string& name, const ClusterOptions& options = {});

  ThrowawayCluster(ThrowawayCluster&&) noexcept;
  ThrowawayCluster& operator=(ThrowawayCluster&&) noexcept;
  ~ThrowawayCluster();  // stops immediately and removes the directory

  // host=127.0.0.1 port=... dbname=... user=postgres; libpq's order and spelling.
  std::string conninfo(const std::string& database = "postgres") const;
  // The same over the Unix socket.
  std::string socket_conninfo(const std::string& database = "postgres") const;

  enum class StopMode { kSmart, kFast, kImmediate };
  Result<void> stop(StopMode mode = StopMode::kFast);
  Result<void> start();  // same directory, same port
  // kill -9 of the postmaster and all its children, by their ids; start() recovers.
  Result<void> kill();

  int port() const { return port_; }
  const std::filesystem::path& directory() const { return directory_; }
  std::string log() const;  // the server's log so far

 private:
  ThrowawayCluster() = default;

  Result<void> initialise(const std::string& name, const ClusterOptions& options);
  Result<void> configure(const std::map<std::string, std::string>& settings);
  Result<void> start_on_a_free_port();
  Result<void> spawn_postmaster();
  bool ready() const;
  bool reaped(std::chrono::milliseconds timeout);
  void destroy() noexcept;

  std::filesystem::path directory_;  // holds data/, socket and log
  std::string bin_dir_;
  int port_ = 0;
  pid_t postmaster_ = 0;  // our child; zero when it does not run
};

}  // namespace bitacora::engine
