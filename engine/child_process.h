// A child process, of the demo or a test: its output is captured, and it does not outlive the
// object.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

namespace bitacora::engine {

// Not thread-safe, except that output() and error_output() may be read while the process writes.
class ChildProcess {
 public:
  // Starts argv[0], looked up on PATH; `environment` holds NAME=value on top of ours.
  // Throws std::system_error when it cannot be started.
  explicit ChildProcess(std::vector<std::string> argv,
                        const std::vector<std::string>& environment = {});

  ChildProcess(ChildProcess&& other) noexcept;
  ChildProcess& operator=(ChildProcess&& other) noexcept;
  ~ChildProcess();  // SIGKILL, and reaped

  pid_t pid() const { return pid_; }
  bool running() { return !wait(std::chrono::milliseconds(0)).has_value(); }

  void signal(int number);
  void kill();  // SIGKILL, and reaped

  // The exit code, or 128 + the signal that ended it as a shell says it; empty at the timeout.
  std::optional<int> wait(std::chrono::milliseconds timeout);

  std::string output() const;        // standard output so far
  std::string error_output() const;  // standard error so far

 private:
  void end() noexcept;

  pid_t pid_ = 0;
  int output_ = -1;  // anonymous files
  int error_output_ = -1;
  std::optional<int> exit_code_;
};

struct Finished {
  std::optional<int> exit_code;  // empty: did not end in time and was killed
  std::string output;
  std::string error_output;
};

Finished run(std::vector<std::string> argv,
             std::chrono::milliseconds timeout = std::chrono::seconds(30),
             const std::vector<std::string>& environment = {});

}  // namespace bitacora::engine
