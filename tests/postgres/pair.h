// A sender and a receiver between two databases: the shape of every end-to-end test.
#pragma once

#include <chrono>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "engine/throwaway_cluster.h"
#include "tests/postgres/process.h"

namespace bitacora::harness {

// One master and one standby for all cases of a test binary, made at the first call and removed at
// exit. A case that needs its own settings or kills a server makes its own clusters instead.
engine::ThrowawayCluster& shared_master();
engine::ThrowawayCluster& shared_standby();

// "suite_case" of the running test in lower case: distinct per case, fit for a database and a slot.
std::string case_name();

struct PairOptions {
  std::string name = case_name();               // of both databases, the stream and the receiver
  std::vector<std::string> sender_arguments;    // after the usual ones; see Pair
  std::vector<std::string> receiver_arguments;  // for example --create-schema
  std::vector<std::string> environment;         // NAME=value, for both
  bool copy = false;                            // false: --no-copy
  std::string binary = {};                      // empty: the released one
  std::string master_database = {};             // is there already; empty: made, called `name`
  std::string standby_database = {};            // the same
};

// Makes the two databases and the directories, and starts nothing. The processes run as ourselves.
// The destructor ends both, drops the stream's slot and removes the directories. Not thread-safe.
class Pair {
 public:
  Pair(engine::ThrowawayCluster& master, engine::ThrowawayCluster& standby,
       PairOptions options = {});
  explicit Pair(PairOptions options = {})
      : Pair(shared_master(), shared_standby(), std::move(options)) {}
  Pair(const Pair&) = delete;
  Pair& operator=(const Pair&) = delete;
  ~Pair();

  const std::string& name() const { return options_.name; }
  std::string master() const { return master_.conninfo(options_.master_database); }
  std::string standby() const { return standby_.conninfo(options_.standby_database); }
  void on_master(const std::string& sql) const;
  void on_standby(const std::string& sql) const;
  void on_both(const std::string& sql) const;
  // table_content() of both sides is equal.
  bool same_content(const std::string& table) const;

  // start() waits until the slot exists: what is written after it is shipped. The others do not
  // wait for anything, wait_applied() does. Ports stay the same over restarts.
  void start();
  void wait_for_slot();
  void start_sender(const std::vector<std::string>& environment = {});  // beside the options'
  void start_receiver(const std::vector<std::string>& environment = {});
  // SIGTERM, and the exit code. Throws when the process is not gone after 20 s, and kills it.
  int stop_sender();
  int stop_receiver();
  void stop();  // the receiver, then the sender
  // SIGKILL.
  void kill_sender();
  void kill_receiver();

  // Returns when everything committed on the master before the call is visible on the standby.
  // Throws, with what both processes wrote, at the timeout and when one of them ended by itself.
  void wait_applied(std::chrono::milliseconds timeout = std::chrono::seconds(30));

  Process& sender() { return sender_.value(); }
  Process& receiver() { return receiver_.value(); }
  // `bitacora ARGUMENTS...` to its end, for example {"status", "--http", pair.receiver_http()}.
  static Finished bitacora(std::vector<std::string> arguments);

  std::string sender_address() const;  // host:port, for a second receiver
  std::string sender_http() const;
  std::string receiver_http() const;
  std::filesystem::path state_dir() const { return directory_ / "state"; }
  std::filesystem::path data_dir() const { return directory_ / "data"; }
  // What both processes wrote so far, also those killed or stopped before.
  std::string story() const;
  // How often these words are in it.
  int said(const std::string& words) const;

 private:
  std::string binary() const;
  std::vector<std::string> environment(const std::vector<std::string>& more) const;
  std::vector<std::string> sender_command() const;
  std::vector<std::string> receiver_command() const;
  int stop(std::optional<Process>& process, const char* role);
  void retire(std::optional<Process>& process, const char* role);
  void throw_if_ended(std::optional<Process>& process, const char* role);

  PairOptions options_;
  engine::ThrowawayCluster& master_;
  engine::ThrowawayCluster& standby_;
  std::filesystem::path directory_;
  int sender_port_;
  int sender_http_port_;
  int receiver_http_port_;
  std::string past_;  // what ended processes wrote
  std::optional<Process> sender_;
  std::optional<Process> receiver_;
};

}  // namespace bitacora::harness
