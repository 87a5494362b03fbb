// The processes of a pair under measurement, with what they leave on disk.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/lsn.h"
#include "engine/child_process.h"

namespace bitacora::bench {

// A directory that does not outlive the object.
class WorkingDirectory {
 public:
  explicit WorkingDirectory(std::filesystem::path path);
  WorkingDirectory(const WorkingDirectory&) = delete;
  WorkingDirectory& operator=(const WorkingDirectory&) = delete;
  ~WorkingDirectory();

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// Not thread-safe, like everything here.
class Sender {
 public:
  // Returns when the stream's slot exists: what is written from then on is shipped.
  Sender(const std::string& master, std::string stream, const std::filesystem::path& state_dir);

  const std::string& stream() const { return stream_; }
  const std::string& address() const { return address_; }
  int port() const { return port_; }
  pid_t pid() const { return process_.pid(); }
  // With its last words.
  void throw_if_ended();
  // How many receivers the common read serves, from its status page.
  int receivers_read_for_together();

 private:
  std::string http_;
  std::string stream_;
  int port_;
  std::string address_;
  engine::ChildProcess process_;
};

// Who receives: stays the same from one start to the next.
struct ReceiverIdentity {
  std::string name;
  std::string standby;  // conninfo
  std::filesystem::path data_dir;
  std::vector<std::string> copy = {"--no-copy"};  // how the tables come to the standby
};

struct ReceiverState {
  MasterLsn flushed;  // in the spool
  MasterLsn applied;
  std::uint64_t transactions = 0;  // since the process began, as are the rows
  std::uint64_t rows = 0;
  std::uint64_t spool_bytes = 0;
};

// From start to stop: one turn.
class Receiver {
 public:
  // `arguments` come after the usual ones.
  Receiver(const Sender& sender, const ReceiverIdentity& identity,
           const std::vector<std::string>& arguments = {});
  // By way of this address, behind which the sender is.
  Receiver(const Sender& sender, const ReceiverIdentity& identity, const std::string& address,
           const std::vector<std::string>& arguments = {});

  pid_t pid() const { return process_.pid(); }
  void throw_if_ended();
  // From its status page, which the process must have opened: retried for some seconds.
  ReceiverState state();
  // How often it took back what its fast path had begun, and did it row by row.
  int exact_path_retries() const;
  void stop();  // SIGTERM; throws when it is not gone in time, or its exit code is not 0

 private:
  std::string http_;
  engine::ChildProcess process_;
};

}  // namespace bitacora::bench
