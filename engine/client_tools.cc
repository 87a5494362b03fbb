#include "engine/client_tools.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <system_error>
#include <vector>

#include <fmt/format.h>

#include "engine/child_process.h"

namespace bitacora::engine {
namespace {

namespace fs = std::filesystem;

constexpr const char* kDebianRoot = "/usr/lib/postgresql";

// Of "pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"; 0: there is none, or it does not say.
int major_version(const std::string& directory) try {
  const auto pg_dump = directory + "/pg_dump";
  if (access(pg_dump.c_str(), X_OK) != 0 || access((directory + "/pg_restore").c_str(), X_OK) != 0)
    return 0;
  const auto finished = run({pg_dump, "--version"});
  const auto digit = finished.output.find_first_of("0123456789");
  if (finished.exit_code != 0 || digit == std::string::npos) return 0;
  return std::atoi(finished.output.c_str() + digit);
} catch (const std::system_error&) {
  return 0;
}

// Debian's programs on PATH choose a version anew each time they run, by what they connect to:
// those they choose from are looked at themselves.
bool chooses_a_version(const fs::path& program) {
  std::error_code ignored;
  return fs::canonical(program, ignored).filename() == "pg_wrapper";
}

std::string directory_on_path() {
  const char* path = std::getenv("PATH");
  std::istringstream directories(path != nullptr ? path : "");
  for (std::string directory; std::getline(directories, directory, ':');) {
    const auto program = fs::path(directory) / "pg_dump";
    if (access(program.c_str(), X_OK) == 0) return chooses_a_version(program) ? "" : directory;
  }
  return {};
}

// In the order in which they are to be tried.
std::vector<ClientTools> installed() {
  std::vector<ClientTools> found;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(kDebianRoot, ignored)) {
    const auto directory = (entry.path() / "bin").string();
    if (const int version = major_version(directory); version != 0)
      found.push_back({directory, version});
  }
  std::sort(found.begin(), found.end(), [](const ClientTools& a, const ClientTools& b) {
    return a.major_version < b.major_version;
  });
  const auto on_path = directory_on_path();
  if (const int version = on_path.empty() ? 0 : major_version(on_path); version != 0)
    found.insert(found.begin(), {on_path, version});
  return found;
}

}  // namespace

Result<ClientTools> find_client_tools(const std::string& bin_dir, int master_major_version) {
  const auto candidates =
      bin_dir.empty() ? installed() : std::vector<ClientTools>{{bin_dir, major_version(bin_dir)}};
  int newest = 0;
  for (const auto& tools : candidates) {
    if (tools.major_version >= master_major_version) return tools;
    newest = std::max(newest, tools.major_version);
  }
  const auto where = bin_dir.empty() ? "on the sender's host" : "in " + bin_dir;
  return Error{
      ErrorCode::kConfiguration,
      newest == 0 ? fmt::format("the master is PostgreSQL {}, and there is no pg_dump {}",
                                master_major_version, where)
                  : fmt::format("the master is PostgreSQL {}, and the pg_dump {} is only {}",
                                master_major_version, where, newest),
      fmt::format(
          "install postgresql-client-{} (or newer) on the sender's host, or give --pg-bin-dir",
          master_major_version)};
}

}  // namespace bitacora::engine
