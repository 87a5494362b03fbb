#include "engine/child_process.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>

#include "base/check.h"

namespace bitacora::engine {
namespace {

using Clock = std::chrono::steady_clock;

[[noreturn]] void fail(int error, const std::string& what) {
  throw std::system_error(error, std::generic_category(), what);
}

int anonymous_file(const char* name) {
  const int fd = memfd_create(name, MFD_CLOEXEC);
  if (fd < 0) fail(errno, "memfd_create");
  return fd;
}

// Reads beside the writing child: pread leaves the offset they share alone.
std::string content(int fd) {
  std::string text;
  std::array<char, 65536> piece;
  ssize_t count = 0;
  while ((count = pread(fd, piece.data(), piece.size(), static_cast<off_t>(text.size()))) > 0) {
    text.append(piece.data(), static_cast<std::size_t>(count));
  }
  return text;
}

// Later entries win over ours.
std::vector<std::string> merged_environment(const std::vector<std::string>& additions) {
  std::vector<std::string> all = additions;
  for (char** at = environ; *at != nullptr; ++at) {
    const std::string_view variable = *at;
    const auto name = variable.substr(0, variable.find('=') + 1);
    bool replaced = false;
    for (const auto& addition : additions) replaced = replaced || addition.starts_with(name);
    if (!replaced) all.emplace_back(variable);
  }
  return all;
}

std::vector<char*> c_strings(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (auto& string : strings) pointers.push_back(string.data());
  pointers.push_back(nullptr);
  return pointers;
}

}  // namespace

ChildProcess::ChildProcess(std::vector<std::string> argv,
                           const std::vector<std::string>& environment)
    : output_(anonymous_file("output")), error_output_(anonymous_file("error_output")) {
  CHECK(!argv.empty());
  auto variables = merged_environment(environment);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, output_, STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, error_output_, STDERR_FILENO);
  // We may have blocked or ignored signals; the child begins with none of that.
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none;
  sigset_t all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  const int failure = posix_spawnp(&pid_, argv.front().c_str(), &actions, &attributes,
                                   c_strings(argv).data(), c_strings(variables).data());
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  if (failure != 0) {
    pid_ = 0;
    end();
    fail(failure, "cannot run " + argv.front());
  }
}

ChildProcess::ChildProcess(ChildProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, 0)),
      output_(std::exchange(other.output_, -1)),
      error_output_(std::exchange(other.error_output_, -1)),
      exit_code_(other.exit_code_) {}

ChildProcess& ChildProcess::operator=(ChildProcess&& other) noexcept {
  if (this != &other) {
    end();
    pid_ = std::exchange(other.pid_, 0);
    output_ = std::exchange(other.output_, -1);
    error_output_ = std::exchange(other.error_output_, -1);
    exit_code_ = other.exit_code_;
  }
  return *this;
}

ChildProcess::~ChildProcess() { end(); }

void ChildProcess::end() noexcept {
  if (pid_ != 0) kill();
  pid_ = 0;
  if (output_ >= 0) close(output_);
  if (error_output_ >= 0) close(error_output_);
  output_ = error_output_ = -1;
}

void ChildProcess::signal(int number) {
  if (running()) ::kill(pid_, number);
}

void ChildProcess::kill() {
  signal(SIGKILL);
  wait(std::chrono::hours(1));  // nothing survives SIGKILL
}

std::optional<int> ChildProcess::wait(std::chrono::milliseconds timeout) {
  constexpr std::chrono::milliseconds kPoll{2};
  const auto deadline = Clock::now() + timeout;
  while (!exit_code_) {
    int status = 0;
    const pid_t answer = waitpid(pid_, &status, WNOHANG);
    if (answer == pid_) {
      exit_code_ = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    } else if (answer < 0 && errno != EINTR) {
      fail(errno, "waitpid");
    } else if (Clock::now() >= deadline) {
      break;
    } else {
      std::this_thread::sleep_for(kPoll);
    }
  }
  return exit_code_;
}

std::string ChildProcess::output() const { return content(output_); }

std::string ChildProcess::error_output() const { return content(error_output_); }

Finished run(std::vector<std::string> argv, std::chrono::milliseconds timeout,
             const std::vector<std::string>& environment) {
  ChildProcess process(std::move(argv), environment);
  const auto exit_code = process.wait(timeout);
  if (!exit_code) process.kill();
  return {exit_code, process.output(), process.error_output()};
}

}  // namespace bitacora::engine
