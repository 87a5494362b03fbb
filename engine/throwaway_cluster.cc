#include "engine/throwaway_cluster.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <pwd.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <optional>
#include <random>
#include <sstream>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>

namespace bitacora::engine {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kPoll{5};
constexpr milliseconds kStartTimeout{120'000};  // crash recovery on a busy machine included
constexpr milliseconds kStopTimeout{60'000};
constexpr milliseconds kImmediateStopTimeout{10'000};
constexpr int kFirstPort = 12'000;  // up to where Linux begins to number outgoing connections
constexpr int kLastPort = 32'000;
constexpr int kPortAttempts = 5;
constexpr std::size_t kSocketPathMax = 107;  // of sockaddr_un, with its terminating zero

std::string read_file(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return std::move(text).str();
}

std::string last_words(const fs::path& path) {
  constexpr std::size_t kBytes = 2000;
  auto text = read_file(path);
  return text.size() > kBytes ? text.substr(text.size() - kBytes) : text;
}

Error system_error(ErrorCode code, std::string_view what) {
  return Error{code, fmt::format("{}: {}", what, std::strerror(errno))};
}

// Whom the server runs as. Unset: ourselves.
Result<std::optional<passwd>> server_user() {
  if (geteuid() != 0) return std::optional<passwd>{};
  const passwd* entry = getpwnam("postgres");
  if (entry == nullptr) {
    return Error{ErrorCode::kConfiguration,
                 "PostgreSQL refuses to run as root and there is no user postgres",
                 "install postgresql-15, or run as an ordinary user"};
  }
  return std::optional<passwd>{*entry};
}

bool holds_server(const fs::path& bin_dir) {
  return fs::exists(bin_dir / "initdb") && fs::exists(bin_dir / "postgres");
}

Result<std::string> newest_bin_dir() {
  std::error_code ignored;
  int newest = 0;
  std::string found;
  for (const auto& entry : fs::directory_iterator("/usr/lib/postgresql", ignored)) {
    const int version = std::atoi(entry.path().filename().c_str());
    if (version > newest && holds_server(entry.path() / "bin")) {
      newest = version;
      found = entry.path() / "bin";
    }
  }
  if (found.empty()) {
    return Error{ErrorCode::kConfiguration, "no PostgreSQL server under /usr/lib/postgresql",
                 "install postgresql-15"};
  }
  return found;
}

// Socket paths have a short limit: a deep TMPDIR gives way to /tmp.
fs::path directory_template(const std::string& name) {
  std::error_code ignored;
  const auto leaf = fmt::format("bitacora-{}-XXXXXX", name);
  const auto wanted = fs::temp_directory_path(ignored) / leaf;
  const auto socket_bytes = wanted.native().size() + std::strlen("/.s.PGSQL.65535.lock") + 1;
  return ignored || socket_bytes > kSocketPathMax ? fs::path("/tmp") / leaf : wanted;
}

// Our environment without PG*, which would redirect the server, and with messages we can read.
std::vector<std::string> server_environment() {
  std::vector<std::string> variables{"LC_ALL=C"};
  for (char** at = environ; *at != nullptr; ++at) {
    const std::string_view variable = *at;
    if (!variable.starts_with("PG") && !variable.starts_with("LC_ALL=")) {
      variables.emplace_back(variable);
    }
  }
  return variables;
}

std::vector<char*> c_strings(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (auto& string : strings) pointers.push_back(string.data());
  pointers.push_back(nullptr);
  return pointers;
}

// Starts `command` as the server's user in `directory` and in a session of its own (a Ctrl-C in our
// terminal is ours to handle), standard output and error appended to `log`.
Result<pid_t> spawn(std::vector<std::string> command, const fs::path& directory,
                    const fs::path& log) {
  ASSIGN_OR_RETURN(const auto user, server_user());
  if (user) {
    const std::vector<std::string> as_user{"setpriv", "--reuid=postgres", "--regid=postgres",
                                           "--init-groups", "--"};
    command.insert(command.begin(), as_user.begin(), as_user.end());
  }
  auto environment = server_environment();

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addchdir_np(&actions, directory.c_str());
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, log.c_str(),
                                   O_WRONLY | O_CREAT | O_APPEND, 0644);
  posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
  posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t signals;
  sigemptyset(&signals);
  posix_spawnattr_setsigmask(&attributes, &signals);
  sigfillset(&signals);
  posix_spawnattr_setsigdefault(&attributes, &signals);
  posix_spawnattr_setflags(&attributes,
                           POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);

  pid_t pid = 0;
  errno = posix_spawnp(&pid, command.front().c_str(), &actions, &attributes,
                       c_strings(command).data(), c_strings(environment).data());
  const int failure = errno;
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  errno = failure;
  if (failure != 0) return system_error(ErrorCode::kMaster, "cannot run " + command.front());
  return pid;
}

// The fields of /proc/PID/stat after the command's name, which may hold anything; state first, then
// the parent. Empty when there is no such process.
std::string process_state(pid_t pid) {
  const auto text = read_file(fmt::format("/proc/{}/stat", pid));
  const auto name_end = text.rfind(')');
  return name_end == std::string::npos ? "" : text.substr(name_end + 2);
}

std::vector<pid_t> children_of(pid_t parent) {
  std::vector<pid_t> children;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator("/proc", ignored)) {
    const pid_t pid = std::atoi(entry.path().filename().c_str());
    std::istringstream fields(pid > 0 ? process_state(pid) : "");
    char state = 0;
    pid_t its_parent = 0;
    if (fields >> state >> its_parent && its_parent == parent) children.push_back(pid);
  }
  return children;
}

// Somebody else reaps it: a zombie counts as gone.
bool gone(pid_t pid) {
  const auto state = process_state(pid);
  return state.empty() || state.front() == 'Z' || state.front() == 'X';
}

bool can_listen_on(int port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  const int reuse = 1;  // as PostgreSQL and gRPC do: a port in TIME_WAIT is free
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof reuse);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const bool listens = bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 &&
                       listen(fd, 1) == 0;
  close(fd);
  return listens;
}

// Nobody listens on a port whose server is stopped just now, and yet it is taken: a name in the
// abstract namespace says so to other processes, is scoped as ports are (by network namespace) and
// goes with its process.
bool reserve(int port) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const auto name = fmt::format("bitacora-port-{}", port);
  name.copy(address.sun_path + 1, name.size());
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd >= 0 && bind(fd, reinterpret_cast<const sockaddr*>(&address), size) == 0) return true;
  if (fd >= 0) close(fd);
  return false;
}

std::string literal(std::string_view value) {
  std::string text = "'";
  for (const char c : value) text += c == '\'' ? "''" : std::string(1, c);
  return text + "'";
}

}  // namespace

Result<int> free_loopback_port() {
  constexpr unsigned kPorts = kLastPort - kFirstPort;
  static std::atomic<unsigned> next = std::random_device{}() % kPorts;
  for (unsigned tried = 0; tried < kPorts; ++tried) {
    const int port = kFirstPort + static_cast<int>(next.fetch_add(1) % kPorts);
    if (reserve(port) && can_listen_on(port)) return port;
  }
  return Error{ErrorCode::kConfiguration, "no free port on 127.0.0.1"};
}

Result<ThrowawayCluster> ThrowawayCluster::make(const std::string& name,
                                                const ClusterOptions& options) {
  ThrowawayCluster cluster;  // from here on its destructor leaves nothing behind
  RETURN_IF_ERROR(cluster.initialise(name, options));
  RETURN_IF_ERROR(cluster.configure(options.settings));
  RETURN_IF_ERROR(cluster.start_on_a_free_port());
  return cluster;
}

ThrowawayCluster::ThrowawayCluster(ThrowawayCluster&& other) noexcept
    : directory_(std::exchange(other.directory_, {})),
      bin_dir_(std::move(other.bin_dir_)),
      port_(other.port_),
      postmaster_(std::exchange(other.postmaster_, 0)) {}

ThrowawayCluster& ThrowawayCluster::operator=(ThrowawayCluster&& other) noexcept {
  if (this != &other) {
    destroy();
    directory_ = std::exchange(other.directory_, {});
    bin_dir_ = std::move(other.bin_dir_);
    port_ = other.port_;
    postmaster_ = std::exchange(other.postmaster_, 0);
  }
  return *this;
}

ThrowawayCluster::~ThrowawayCluster() { destroy(); }

void ThrowawayCluster::destroy() noexcept {
  if (!stop(StopMode::kImmediate).ok()) static_cast<void>(kill());
  std::error_code ignored;
  if (!directory_.empty()) fs::remove_all(directory_, ignored);
  directory_.clear();
}

Result<void> ThrowawayCluster::initialise(const std::string& name, const ClusterOptions& options) {
  CHECK(name.find('/') == std::string::npos);
  bin_dir_ = options.bin_dir;
  if (bin_dir_.empty()) {
    ASSIGN_OR_RETURN(bin_dir_, newest_bin_dir());
  }
  ASSIGN_OR_RETURN(const auto user, server_user());
  auto directory = directory_template(name).string();
  if (mkdtemp(directory.data()) == nullptr) {
    return system_error(ErrorCode::kConfiguration, "cannot create " + directory);
  }
  directory_ = directory;
  if (user && chown(directory.c_str(), user->pw_uid, user->pw_gid) != 0) {
    return system_error(ErrorCode::kConfiguration, "cannot give away " + directory);
  }

  std::vector<std::string> command{bin_dir_ + "/initdb",
                                   "--pgdata=" + directory + "/data",
                                   "--username=postgres",
                                   "--auth=trust",
                                   "--encoding=UTF8",
                                   "--locale=C",
                                   "--no-sync"};
  command.insert(command.end(), options.initdb_arguments.begin(), options.initdb_arguments.end());
  const auto log = directory_ / "initdb.log";
  ASSIGN_OR_RETURN(const pid_t initdb, spawn(std::move(command), directory_, log));
  int status = 0;
  while (waitpid(initdb, &status, 0) < 0 && errno == EINTR) {
  }
  if (status != 0) {
    return Error{ErrorCode::kMaster, fmt::format("initdb failed: {}", last_words(log))};
  }
  return {};
}

Result<void> ThrowawayCluster::configure(const std::map<std::string, std::string>& settings) {
  std::map<std::string, std::string> all = settings;
  all.merge(std::map<std::string, std::string>{
      {"wal_level", "logical"},
      {"max_wal_senders", "20"},
      {"max_replication_slots", "20"},
      {"listen_addresses", "127.0.0.1"},
      {"unix_socket_directories", directory_.string()},
      {"fsync", "on"},
      {"shared_buffers", "64MB"},
      {"log_line_prefix", "%m [%p] "},
  });
  std::ofstream file(directory_ / "data" / "postgresql.conf", std::ios::app);
  for (const auto& [name, value] : all) file << name << " = " << literal(value) << '\n';
  file.close();
  if (!file) return Error{ErrorCode::kConfiguration, "cannot write postgresql.conf"};
  return {};
}

// Between finding the port and listening on it, another process may take it.
Result<void> ThrowawayCluster::start_on_a_free_port() {
  for (int attempt = 1;; ++attempt) {
    ASSIGN_OR_RETURN(port_, free_loopback_port());
    auto started = start();
    const bool port_taken = log().find("could not create any TCP/IP sockets") != std::string::npos;
    if (started.ok() || !port_taken || attempt == kPortAttempts) return started;
    std::error_code ignored;
    fs::remove(directory_ / "log", ignored);
  }
}

std::string ThrowawayCluster::conninfo(const std::string& database) const {
  return fmt::format("host=127.0.0.1 port={} dbname={} user=postgres", port_, database);
}

std::string ThrowawayCluster::socket_conninfo(const std::string& database) const {
  return fmt::format("host={} port={} dbname={} user=postgres", directory_.string(), port_,
                     database);
}

std::string ThrowawayCluster::log() const { return read_file(directory_ / "log"); }

Result<void> ThrowawayCluster::spawn_postmaster() {
  std::vector<std::string> command{bin_dir_ + "/postgres", "-D", directory_ / "data", "-p",
                                   std::to_string(port_)};
  ASSIGN_OR_RETURN(postmaster_, spawn(std::move(command), directory_, directory_ / "log"));
  return {};
}

// What pg_ctl --wait looks at: the postmaster writes its state into the eighth line of its pid
// file. A file that a killed predecessor left has another pid in the first.
bool ThrowawayCluster::ready() const {
  std::ifstream file(directory_ / "data" / "postmaster.pid");
  std::string line;
  if (!std::getline(file, line) || line != std::to_string(postmaster_)) return false;
  for (int skipped = 1; skipped < 8; ++skipped) {
    if (!std::getline(file, line)) return false;
  }
  return line.starts_with("ready");
}

Result<void> ThrowawayCluster::start() {
  if (postmaster_ != 0 && !reaped(milliseconds(0))) return {};
  RETURN_IF_ERROR(spawn_postmaster());
  const auto deadline = Clock::now() + kStartTimeout;
  while (!ready()) {
    if (reaped(kPoll)) {
      return Error{ErrorCode::kMaster,
                   fmt::format("the server did not start: {}", last_words(directory_ / "log"))};
    }
    if (Clock::now() > deadline) {
      return Error{ErrorCode::kMaster,
                   fmt::format("the server is not ready after {} s: {}",
                               kStartTimeout.count() / 1000, last_words(directory_ / "log"))};
    }
  }
  return {};
}

// True once the postmaster is gone, whoever ended it.
bool ThrowawayCluster::reaped(milliseconds timeout) {
  const auto deadline = Clock::now() + timeout;
  while (postmaster_ != 0) {
    const pid_t answer = waitpid(postmaster_, nullptr, WNOHANG);
    if (answer == postmaster_ || (answer < 0 && errno == ECHILD)) {
      postmaster_ = 0;
    } else if (Clock::now() >= deadline) {
      return false;
    } else {
      std::this_thread::sleep_for(kPoll);
    }
  }
  return true;
}

Result<void> ThrowawayCluster::stop(StopMode mode) {
  if (postmaster_ == 0) return {};
  const int signal = mode == StopMode::kSmart  ? SIGTERM
                     : mode == StopMode::kFast ? SIGINT
                                               : SIGQUIT;
  ::kill(postmaster_, signal);
  const auto timeout = mode == StopMode::kImmediate ? kImmediateStopTimeout : kStopTimeout;
  if (!reaped(timeout)) {
    return Error{ErrorCode::kMaster,
                 fmt::format("the server did not stop: {}", last_words(directory_ / "log"))};
  }
  return {};
}

Result<void> ThrowawayCluster::kill() {
  if (postmaster_ == 0) return {};
  ::kill(postmaster_, SIGSTOP);  // so that it starts no child we do not see
  const auto children = children_of(postmaster_);
  ::kill(postmaster_, SIGKILL);
  for (const pid_t child : children) ::kill(child, SIGKILL);

  const auto deadline = Clock::now() + kImmediateStopTimeout;
  const bool ended = reaped(kImmediateStopTimeout);
  while (!std::all_of(children.begin(), children.end(), gone) && Clock::now() < deadline) {
    std::this_thread::sleep_for(kPoll);
  }
  if (!ended || !std::all_of(children.begin(), children.end(), gone)) {
    return Error{ErrorCode::kMaster, "the server survived kill -9 (a process in disk sleep?)"};
  }
  return {};
}

}  // namespace bitacora::engine
