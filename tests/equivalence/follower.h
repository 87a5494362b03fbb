// The databases that follow the master: one per apply path, and one by PostgreSQL's own means.
#pragma once

#include <chrono>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <pqxx/pqxx>
#include <string>
#include <vector>

#include "engine/throwaway_cluster.h"
#include "tests/equivalence/schema.h"
#include "tests/postgres/pair.h"
#include "tests/postgres/process.h"

namespace bitacora::equivalence {

struct ApplyPath {
  std::string name;
  std::vector<std::string> receiver_arguments;
};

// Comparison → its rows, sorted; or one line that is the same when the rows are.
enum class Detail { kRows, kDigest };
using Content = std::map<std::string, std::vector<std::string>>;
enum class Role { kMaster, kPath, kBuiltIn };
Content content_of(pqxx::connection& connection, Role role, Partitions partitions, Detail detail);

class Follower {
 public:
  // Makes the database with the standby's tables.
  Follower(const engine::ThrowawayCluster& standby, const std::string& name, Partitions partitions,
           Role role);
  Follower(const Follower&) = delete;
  Follower& operator=(const Follower&) = delete;
  virtual ~Follower() = default;

  const std::string& name() const { return name_; }
  std::string conninfo() const { return conninfo_; }
  void execute(const std::string& sql);
  Content content(Detail detail) { return content_of(connection_, role_, partitions_, detail); }

  // Returns when the row of e.finished is visible, and with it everything committed before it.
  // Throws, with what there is to read about it, when that cannot or does not happen.
  void wait_for(std::uint64_t finished, std::chrono::seconds timeout = std::chrono::seconds(60));

 private:
  virtual bool running() = 0;
  virtual std::string story() = 0;

  std::string name_;
  std::string conninfo_;
  Partitions partitions_;
  Role role_;
  pqxx::connection connection_;
};

// A receiver of the pair's sender, beside the pair's own.
class PathFollower : public Follower {
 public:
  PathFollower(const harness::Pair& pair, const engine::ThrowawayCluster& standby,
               const ApplyPath& path, Partitions partitions);
  ~PathFollower() override;

  void start();
  void wait_until_following();
  void stop();  // SIGTERM, to its end
  // Between the two, nothing more is committed: what arrives waits for the progress row.
  void hold();
  void release();

 private:
  bool running() override { return receiver_ && receiver_->running(); }
  std::string story() override;

  std::filesystem::path data_dir_;
  std::vector<std::string> command_;
  std::string past_;  // what ended processes wrote
  std::optional<harness::Process> receiver_;
  pqxx::connection holder_;
  std::unique_ptr<pqxx::work> hold_;
};

// CREATE SUBSCRIPTION to the publication of built_in_publication().
class BuiltInFollower : public Follower {
 public:
  BuiltInFollower(const std::string& master, const engine::ThrowawayCluster& standby,
                  Partitions partitions);
  ~BuiltInFollower() override;

 private:
  bool running() override { return true; }
  std::string story() override { return standby_.log(); }

  const engine::ThrowawayCluster& standby_;
};

}  // namespace bitacora::equivalence
