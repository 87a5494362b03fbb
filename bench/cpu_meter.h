// The CPU seconds that the processes of a way take in one turn, by their role.
#pragma once

#include <sys/types.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace bitacora::bench {

using CpuSeconds = std::map<std::string, double>;
using FindPids = std::function<std::vector<pid_t>()>;

// User and system time so far, from /proc; 0 when the process is gone.
double cpu_seconds(pid_t pid);

// The same of the process, all that it has started, and of these what has ended: of a postmaster,
// the whole server's.
double cpu_seconds_of_family(pid_t pid);

// Finds the server processes that work for the databases LIKE this, but for the sessions of
// as_observer(). It keeps one connection, through `conninfo`.
FindPids find_backends(const std::string& conninfo, const std::string& database);

// A connection string whose session find_backends() passes over.
std::string as_observer(const std::string& conninfo);

class CpuMeter {
 public:
  // Before begin(): what its processes have used until then does not count. After it: all counts.
  void watch(const std::string& role, FindPids find);
  void begin();
  // Processes that come and go, such as parallel workers, count up to the last look at them.
  void sample();
  CpuSeconds seconds() const;

 private:
  struct Watched {
    std::string role;
    FindPids find;
    std::map<pid_t, double> before = {};
    std::map<pid_t, double> latest = {};
  };
  std::vector<Watched> watched_;
};

}  // namespace bitacora::bench
