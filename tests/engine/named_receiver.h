// A receiver beside a pair's own, of the same sender: with a name, a database and directories of
// its own.
#pragma once

#include <chrono>
#include <filesystem>
#include <optional>
#include <string>

#include "tests/engine/refusal.h"
#include "tests/postgres/pair.h"
#include "tests/postgres/process.h"

namespace bitacora::harness {

// Refers to the pair and the cluster, which outlive it. Starts nothing by itself.
class NamedReceiver {
 public:
  NamedReceiver(const Pair& pair, engine::ThrowawayCluster& standby, std::string name);

  const std::string& name() const { return name_; }
  const std::string& standby() const { return standby_; }
  const std::string& http() const { return http_; }
  std::filesystem::path data_dir() const;
  Process& process() { return process_.value(); }

  // Changes are over the usual options. An earlier process must have ended.
  void start(const Changes& changes = {});
  int stop();  // SIGTERM, and the exit code; throws when it is not gone after 20 s
  void kill();
  bool running() { return process_ && process_->running(); }
  // What it is to do before a first copy can be made again: see README, "Begin anew".
  void forget_everything();

  // What was committed on the master up to here is visible.
  bool has_applied(const std::string& lsn) const;
  // Throws, with what it wrote, when it ended or does not show `lsn` in time.
  void wait_applied(const std::string& lsn,
                    std::chrono::milliseconds timeout = std::chrono::seconds(30));
  // The refusal is its last word, and the exit code 3.
  void expect_refused_for_state(const std::vector<std::string>& words);
  std::string story() const;

 private:
  void retire();

  const Pair& pair_;
  std::string name_;
  std::string standby_;
  std::string http_;
  std::optional<Process> process_;
  std::string past_;
};

}  // namespace bitacora::harness
