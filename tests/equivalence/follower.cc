#include "tests/equivalence/follower.h"

#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <stdexcept>

#include "tests/equivalence/schema.h"
#include "tests/postgres/database.h"

namespace bitacora::equivalence {
namespace {

constexpr std::chrono::seconds kStopTimeout{20};
constexpr std::size_t kStoryBytesMax = 4000;

int free_port() {
  const auto port = engine::free_loopback_port();
  if (!port.ok()) throw std::runtime_error(one_line(port.error()));
  return port.value();
}

std::filesystem::path temporary_directory() {
  auto path = (std::filesystem::temp_directory_path() / "bitacora-equivalence-XXXXXX").string();
  if (mkdtemp(path.data()) == nullptr) throw std::runtime_error("cannot create " + path);
  return path;
}

bool asked_of(const Comparison& comparison, Role role) {
  return (role != Role::kMaster || comparison.on_master) &&
         (role != Role::kBuiltIn || comparison.on_built_in);
}

std::string content_sql(const std::string& query, Detail detail) {
  if (detail == Detail::kDigest) {
    return fmt::format(
        "SELECT concat_ws(' ', count(*), sum(pg_catalog.hashtextextended(compared::text, 0)))"
        " AS row FROM ({}) AS compared",
        query);
  }
  return fmt::format(
      "SELECT CASE WHEN length(row) <= 300 THEN row ELSE left(row, 60) || '... digest ' ||"
      " md5(row) END AS row FROM (SELECT compared::text AS row FROM ({}) AS compared) AS rows",
      query);
}

// One statement: a round trip for each table would be most of a history's time.
std::string content_sql(Role role, Partitions partitions, Detail detail) {
  std::string sql;
  for (const auto& comparison : comparisons(partitions)) {
    if (!asked_of(comparison, role)) continue;
    sql += fmt::format("{}SELECT '{}', row FROM ({}) AS content", sql.empty() ? "" : " UNION ALL ",
                       comparison.name, content_sql(comparison.query, detail));
  }
  return sql;
}

}  // namespace

Content content_of(pqxx::connection& connection, Role role, Partitions partitions, Detail detail) {
  Content content;
  for (const auto& comparison : comparisons(partitions)) {
    if (asked_of(comparison, role)) content[comparison.name];
  }
  for (const auto& row :
       pqxx::nontransaction(connection).exec(content_sql(role, partitions, detail))) {
    content.at(row[0].as<std::string>()).push_back(row[1].as<std::string>());
  }
  for (auto& [name, rows] : content) std::sort(rows.begin(), rows.end());
  return content;
}

Follower::Follower(const engine::ThrowawayCluster& standby, const std::string& name,
                   Partitions partitions, Role role)
    : name_(name),
      conninfo_(harness::fresh_database(standby, "equivalence_" + name)),
      partitions_(partitions),
      role_(role),
      connection_(conninfo_) {
  // The server's types and collations are numbered differently from the master's.
  execute("CREATE TYPE shift AS ENUM ('a'); DROP TYPE shift; " + standby_schema(partitions));
}

void Follower::execute(const std::string& sql) { pqxx::nontransaction(connection_).exec(sql); }

void Follower::wait_for(std::uint64_t finished, std::chrono::seconds timeout) {
  const auto sql = fmt::format("SELECT FROM e.finished WHERE history = {}", finished);
  bool ended = false;
  const bool arrived = harness::eventually(
      [&] {
        ended = !running();
        return ended || !pqxx::nontransaction(connection_).exec(sql).empty();
      },
      timeout);
  if (arrived && !ended) return;
  auto words = story();
  if (words.size() > kStoryBytesMax) words.erase(0, words.size() - kStoryBytesMax);
  throw std::runtime_error(
      fmt::format("{} {}\n{}", name_, ended ? "ended by itself" : "did not get there", words));
}

PathFollower::PathFollower(const harness::Pair& pair, const engine::ThrowawayCluster& standby,
                           const ApplyPath& path, Partitions partitions)
    : Follower(standby, path.name, partitions, Role::kPath),
      data_dir_(temporary_directory()),
      holder_(conninfo()) {
  command_ = {BITACORA_BINARY, "receiver",
              "--sender",      pair.sender_address(),
              "--stream",      pair.name(),
              "--standby",     conninfo(),
              "--data-dir",    data_dir_,
              "--name",        "equivalence_" + path.name,
              "--http",        fmt::format("127.0.0.1:{}", free_port()),
              "--no-copy"};
  command_.insert(command_.end(), path.receiver_arguments.begin(), path.receiver_arguments.end());
}

PathFollower::~PathFollower() {
  receiver_.reset();
  std::error_code ignored;
  std::filesystem::remove_all(data_dir_, ignored);
}

void PathFollower::start() { receiver_.emplace(command_); }

// A receiver follows from its first start on, not from before.
void PathFollower::wait_until_following() {
  const bool follows = harness::eventually([&] {
    try {
      return !pqxx::nontransaction(holder_).exec("SELECT FROM bitacora.progress").empty();
    } catch (const pqxx::undefined_table&) {
      return false;
    }
  });
  if (!follows) throw std::runtime_error(name() + " did not start\n" + story());
}

void PathFollower::stop() {
  harness::send_signal(*receiver_, SIGTERM);
  if (!receiver_->wait(kStopTimeout)) throw std::runtime_error("the receiver ignored SIGTERM");
  past_ += receiver_->error_output();
  receiver_.reset();
}

void PathFollower::hold() {
  hold_ = std::make_unique<pqxx::work>(holder_);
  hold_->exec("LOCK TABLE bitacora.progress IN EXCLUSIVE MODE");
}

void PathFollower::release() { hold_.reset(); }

std::string PathFollower::story() {
  return past_ + (receiver_ ? receiver_->output() + receiver_->error_output() : "");
}

BuiltInFollower::BuiltInFollower(const std::string& master, const engine::ThrowawayCluster& standby,
                                 Partitions partitions)
    : Follower(standby, "built_in", partitions, Role::kBuiltIn), standby_(standby) {
  harness::execute(master, built_in_publication(partitions));
  execute(
      fmt::format("CREATE SUBSCRIPTION equivalence CONNECTION '{}' PUBLICATION built_in"
                  " WITH (copy_data = false)",
                  master));
}

BuiltInFollower::~BuiltInFollower() {
  try {
    execute("DROP SUBSCRIPTION equivalence");
  } catch (const std::exception&) {  // a server that is gone: so is its slot's
  }
}

}  // namespace bitacora::equivalence
