// What happens on the master while the followers are held back. Each workload has its own tables,
// the same on all sides before it begins.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace bitacora::bench {

struct Script {  // of pgbench
  std::string text;
  int weight = 1;
};

struct Workload {
  std::string name;
  std::string title;  // what it is, in a few words
  std::vector<std::string> tables;
  std::vector<std::string> setup;  // SQL, run alike on every server
  int pgbench_scale = 0;           // not 0: also pgbench's own tables, in this size

  // A round is one of both. Transactions of eight clients; without scripts pgbench's own kind:
  int transactions = 0;
  std::vector<Script> scripts = {};
  // or statements, each a transaction, of round 0, 1, ...:
  std::function<std::vector<std::string>(int round)> statements = {};

  double rate = 0;  // of pgbench's transactions, per second; 0: as fast as they go
};

// `scale` multiplies numbers of rows and transactions; there is enough to delete for `rounds`.
std::vector<Workload> workloads(double scale, int rounds);

// Those of these names, all when there are none. Throws, naming what there is.
std::vector<Workload> chosen(std::vector<Workload> all, const std::vector<std::string>& names);

// pgbench's own kind of transactions.
Workload tpcb(int transactions, int pgbench_scale);

// Makes the tables in this database.
void set_up(const Workload& workload, const std::string& conninfo);

// One round, to its end. `directory` is for scripts. Throws what pgbench or the server says.
void run_round(const Workload& workload, const std::string& master, int round,
               const std::filesystem::path& directory);

// Throws when a table does not hold the same rows on both sides: then nothing was measured.
void compare_content(const Workload& workload, const std::string& master,
                     const std::string& standby);

// pgbench with these arguments, to its end, calling `meanwhile` all the time; its output. It
// commits asynchronously unless told not to: only how fast the backlog arises depends on that, not
// what is in it.
std::string pgbench(std::vector<std::string> arguments, bool synchronous_commit = false,
                    const std::function<void()>& meanwhile = {});

// What that output says it came to. Throws when it says nothing.
double transactions_per_second(const std::string& pgbench_output);

}  // namespace bitacora::bench
