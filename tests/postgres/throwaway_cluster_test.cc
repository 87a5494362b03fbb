#include "engine/throwaway_cluster.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <optional>
#include <stdexcept>

#include "tests/postgres/database.h"
#include "tests/postgres/process.h"
#include "tests/postgres/servers.h"

namespace bitacora::harness {
namespace {

using engine::ClusterOptions;
using engine::ThrowawayCluster;

ThrowawayCluster make(const ClusterOptions& options = {}) {
  auto cluster = ThrowawayCluster::make("cluster_test", options);
  if (!cluster.ok()) throw std::runtime_error(one_line(cluster.error()));
  return std::move(cluster).value();
}

std::string rows(const ThrowawayCluster& cluster) {
  return query_value(cluster.conninfo(), "SELECT count(*) FROM datos");
}

TEST(ThrowawayCluster, IsMadeForLogicalReplicationAndTheCallersSettingsWin) {
  ClusterOptions options;
  options.settings = {{"work_mem", "5MB"}, {"max_wal_senders", "7"}, {"cluster_name", "it's"}};
  const auto cluster = make(options);
  const auto setting = [&](const std::string& name) {
    return query_value(cluster.socket_conninfo(), "SHOW " + name);
  };
  EXPECT_EQ(setting("wal_level"), "logical");
  EXPECT_EQ(setting("fsync"), "on");
  EXPECT_EQ(setting("max_replication_slots"), "20");
  EXPECT_EQ(setting("work_mem"), "5MB");
  EXPECT_EQ(setting("max_wal_senders"), "7");
  EXPECT_EQ(setting("cluster_name"), "it's");
  EXPECT_EQ(setting("port"), std::to_string(cluster.port()));
}

TEST(ThrowawayCluster, InitdbArgumentsWin) {
  ClusterOptions options;
  options.initdb_arguments = {"--encoding=LATIN1"};
  EXPECT_EQ(query_value(make(options).conninfo(), "SHOW server_encoding"), "LATIN1");
}

TEST(ThrowawayCluster, CommittedRowsSurviveEveryStopAndKill) {
  auto cluster = make();
  execute(cluster.conninfo(), "CREATE TABLE datos (id int)");
  const int port = cluster.port();
  using Mode = ThrowawayCluster::StopMode;
  for (const auto mode : {Mode::kSmart, Mode::kFast, Mode::kImmediate}) {
    execute(cluster.conninfo(), "INSERT INTO datos VALUES (1)");
    ASSERT_TRUE(cluster.stop(mode).ok());
    EXPECT_THROW(rows(cluster), std::exception);
    ASSERT_TRUE(cluster.start().ok());
  }
  for (int i = 0; i < 3; ++i) {
    execute(cluster.conninfo(), "INSERT INTO datos VALUES (2)");
    ASSERT_TRUE(cluster.kill().ok());
    EXPECT_THROW(rows(cluster), std::exception);
    const auto started = cluster.start();
    ASSERT_TRUE(started.ok()) << started.error().message;
  }
  EXPECT_EQ(rows(cluster), "6");
  EXPECT_EQ(cluster.port(), port);
  EXPECT_NE(cluster.log().find("was not properly shut down"), std::string::npos);
}

TEST(ThrowawayCluster, StoppingAStoppedAndStartingAStartedOneIsNothing) {
  auto cluster = make();
  EXPECT_TRUE(cluster.start().ok());
  EXPECT_TRUE(cluster.stop().ok());
  EXPECT_TRUE(cluster.stop().ok());
  EXPECT_TRUE(cluster.kill().ok());
  EXPECT_TRUE(cluster.start().ok());
}

TEST(ThrowawayCluster, NothingIsLeftWhenItDies) {
  std::filesystem::path directory;
  std::string conninfo;
  std::optional<ThrowawayCluster> moved_into;
  {
    auto cluster = make();
    directory = cluster.directory();
    conninfo = cluster.conninfo();
    moved_into = std::move(cluster);
  }
  EXPECT_EQ(query_value(conninfo, "SELECT 1"), "1") << "a move must not stop the server";
  moved_into.reset();
  EXPECT_FALSE(std::filesystem::exists(directory));
  EXPECT_THROW(query_value(conninfo, "SELECT 1"), std::exception);
}

TEST(ThrowawayCluster, TellsTheServersOwnWordsWhenItDoesNotStart) {
  ClusterOptions options;
  options.settings = {{"no_such_setting", "1"}};
  const auto cluster = ThrowawayCluster::make("cluster_test", options);
  ASSERT_FALSE(cluster.ok());
  EXPECT_EQ(cluster.error().code, ErrorCode::kMaster);
  EXPECT_NE(cluster.error().message.find("no_such_setting"), std::string::npos)
      << cluster.error().message;
}

TEST(ThrowawayCluster, TellsInitdbsOwnWordsWhenItFails) {
  ClusterOptions options;
  options.initdb_arguments = {"--encoding=NONSENSE"};
  const auto cluster = ThrowawayCluster::make("cluster_test", options);
  ASSERT_FALSE(cluster.ok());
  EXPECT_NE(cluster.error().message.find("NONSENSE"), std::string::npos) << cluster.error().message;
}

// A fork asks for ports in the same order as its parent.
TEST(ThrowawayCluster, PortsAreReservedAmongProcesses) {
  ASSERT_TRUE(engine::free_loopback_port().ok());
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const pid_t child = fork();
  if (child == 0) {
    const int port = engine::free_loopback_port().value();
    static_cast<void>(!write(ends[1], &port, sizeof port));
    pause();  // holds it
  }
  int of_child = 0;
  ASSERT_EQ(read(ends[0], &of_child, sizeof of_child), static_cast<ssize_t>(sizeof of_child));
  const auto of_parent = engine::free_loopback_port();
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  ASSERT_TRUE(of_parent.ok());
  EXPECT_NE(of_parent.value(), of_child);
}

TEST(ThrowawayCluster, ManyLiveSideBySide) {
  const auto first = make();
  const auto second = make();
  EXPECT_NE(first.port(), second.port());
  EXPECT_EQ(query_value(first.conninfo(), "SELECT 1"), "1");
  EXPECT_EQ(query_value(second.conninfo(), "SELECT 1"), "1");
}

TEST(ThrowawayCluster, ADeepTemporaryDirectoryGivesWayToAShortSocketPath) {
  const auto deep = std::filesystem::temp_directory_path() / std::string(100, 'd');
  std::filesystem::create_directories(deep);
  ASSERT_EQ(setenv("TMPDIR", deep.c_str(), 1), 0);
  const auto cluster = ThrowawayCluster::make("cluster_test");
  unsetenv("TMPDIR");
  std::filesystem::remove_all(deep);
  ASSERT_TRUE(cluster.ok()) << cluster.error().message;
  EXPECT_EQ(query_value(cluster->socket_conninfo(), "SELECT 1"), "1");
}

class EveryVersion : public testing::TestWithParam<int> {};

TEST_P(EveryVersion, StartsAndDecodes) {
  const auto servers = available_servers();
  if (!servers.contains(GetParam())) GTEST_SKIP() << why_missing(GetParam());
  ClusterOptions options;
  options.bin_dir = servers.at(GetParam());
  const auto cluster = make(options);
  EXPECT_EQ(
      query_value(cluster.conninfo(), "SELECT current_setting('server_version_num')::int / 10000"),
      std::to_string(GetParam()));
  EXPECT_EQ(
      query_value(cluster.conninfo(),
                  "SELECT slot_name FROM pg_create_logical_replication_slot('s', 'pgoutput')"),
      "s");
}

INSTANTIATE_TEST_SUITE_P(PostgreSql, EveryVersion, testing::ValuesIn(kSupportedVersions),
                         testing::PrintToStringParamName());

}  // namespace
}  // namespace bitacora::harness
