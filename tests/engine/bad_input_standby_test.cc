// A receiver that is told something wrong says so in one line and leaves nothing on the standby.
#include <gtest/gtest.h>

#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "tests/engine/refusal.h"
#include "tests/postgres/database.h"

namespace bitacora::harness {
namespace {

TEST(BadInputStandby, Conninfo) {
  prepend_hba(
      shared_standby(),
      "host all outsider 127.0.0.1/32 reject\nhost all locked 127.0.0.1/32 scram-sha-256\n");
  fresh_role(shared_standby().conninfo(), "outsider", "LOGIN");
  fresh_role(shared_standby().conninfo(), "locked", "LOGIN PASSWORD 'right'");
  const Pair pair;
  const std::string good = pair.standby();
  for (const Refusal& refusal : {
           Refusal{"syntax",
                   {{"--standby", "host=127.0.0.1 prot=1"}},
                   2,
                   {"--standby", "prot", "for example"}},
           Refusal{"unknown host",
                   {{"--standby", good + " host=nowhere.invalid"}},
                   5,
                   {"nowhere.invalid", "check the host"}},
           Refusal{"wrong port",
                   {{"--standby", good + " port=1"}},
                   5,
                   {"port 1", "check that the server runs", "--standby"}},
           Refusal{"wrong password",
                   {{"--standby", good + " user=locked password=wrong"}},
                   5,
                   {"locked", "PGPASSWORD"}},
           Refusal{"not in pg_hba.conf",
                   {{"--standby", good + " user=outsider"}},
                   5,
                   {"outsider", "pg_hba.conf", "reload"}},
           Refusal{"unknown database",
                   {{"--standby", good + " dbname=nowhere"}},
                   5,
                   {"\"nowhere\"", "dbname", "--standby"}},
           Refusal{"unknown role",
                   {{"--standby", good + " user=nobody"}},
                   5,
                   {"\"nobody\"", "CREATE ROLE"}},
           Refusal{"plaintext to another host",
                   {{"--sender", "192.0.2.1:7432"}},
                   2,
                   {"192.0.2.1:7432", "--tls-cert"}},
           Refusal{"http port in use",
                   {{"--http", "127.0.0.1:" + std::to_string(shared_master().port())}},
                   2,
                   {"cannot listen", "--http"}},
       }) {
    expect_receiver_refused(pair, refusal);
  }
}

TEST(BadInputStandby, HotStandby) {
  auto cluster = engine::ThrowawayCluster::make("hot_standby").value();
  const Pair pair(shared_master(), cluster);
  ASSERT_TRUE(cluster.stop().ok());
  std::ofstream(cluster.directory() / "data" / "standby.signal").flush();
  ASSERT_TRUE(cluster.start().ok());
  expect_receiver_refused(pair, {"as standby", {}, 5, {"in recovery", "--standby"}});
  const Changes as_master{{"--master", pair.standby()}};
  expect_refused(run(sender_command(pair, as_master)), 4,
                 {"in recovery", "--master", "16 or newer"});
}

struct Misfit {
  std::string name;
  std::string master;
  std::string standby;
  std::vector<std::string> words;
};

// Each table is alone in its publication, so that nothing else can be named instead.
TEST(BadInputStandby, Tables) {
  for (const Misfit& misfit : {
           Misfit{"missing table", "(id int PRIMARY KEY)", "", {"no table public.t", "--tables"}},
           Misfit{"missing column",
                  "(id int PRIMARY KEY, v text)",
                  "(id int PRIMARY KEY)",
                  {"public.t", "no column", "v", "ADD COLUMN"}},
           Misfit{"incompatible type",
                  "(id int PRIMARY KEY, v point)",
                  "(id int PRIMARY KEY, v date)",
                  {"public.t", "point", "date", "--tables"}},
           Misfit{"unknown type",
                  "(id int PRIMARY KEY, v mood)",
                  "(id int PRIMARY KEY, v text)",
                  {"public.t", "mood", "create the type"}},
           Misfit{"required extra column",
                  "(id int PRIMARY KEY)",
                  "(id int PRIMARY KEY, extra int NOT NULL)",
                  {"public.t", "extra", "SET DEFAULT"}},
           Misfit{"a view", "(id int PRIMARY KEY)", "VIEW", {"public.t", "create it"}},
       }) {
    SCOPED_TRACE(misfit.name);
    Pair pair;
    pair.on_master("CREATE TYPE mood AS ENUM ('sad')");
    pair.on_master("CREATE TABLE t " + misfit.master);
    if (misfit.standby == "VIEW") {
      pair.on_standby("CREATE VIEW t AS SELECT 1 AS id");
    } else if (!misfit.standby.empty()) {
      pair.on_standby("CREATE TABLE t " + misfit.standby);
    }
    pair.start_sender();
    pair.wait_for_slot();
    expect_receiver_refused(pair, {misfit.name, {}, 5, misfit.words});
    EXPECT_TRUE(pair.sender().running());
    // Registered, it would hold the slot for ever.
    EXPECT_TRUE(eventually([&] { return registered_receivers(pair).empty(); }))
        << registered_receivers(pair);
    EXPECT_EQ(pair.stop_sender(), 0);
    EXPECT_EQ(registered_receivers(pair), "") << "nor at the sender's next start";
  }
}

TEST(BadInputStandby, Rights) {
  Pair pair;
  fresh_role(shared_standby().conninfo(), "applier", "LOGIN");
  pair.on_both("CREATE TABLE t (id int PRIMARY KEY)");
  pair.start_sender();
  pair.wait_for_slot();
  const Changes as_applier{{"--standby", pair.standby() + " user=applier"}};
  const auto refused = [&](const char* name, std::vector<std::string> words) {
    expect_receiver_refused(pair, {name, as_applier, 5, std::move(words)});
  };
  refused("no SET", {"session_replication_role", "GRANT SET ON PARAMETER", "applier"});
  pair.on_standby("GRANT SET ON PARAMETER session_replication_role TO applier");
  refused("no rights on the table", {"public.t", "GRANT"});
  pair.on_standby("GRANT SELECT, INSERT, UPDATE, DELETE ON t TO applier");
  pair.on_standby("ALTER TABLE t ENABLE ROW LEVEL SECURITY");
  refused("row level security", {"public.t", "row level security", "BYPASSRLS"});
  pair.on_standby("ALTER TABLE t DISABLE ROW LEVEL SECURITY");
  refused("no schema", {"bitacora.progress", "CREATE SCHEMA bitacora"});
  pair.on_standby("CREATE SCHEMA bitacora AUTHORIZATION applier");
  Process receiver(receiver_command(pair, as_applier));
  pair.on_master("INSERT INTO t VALUES (1)");
  pair.wait_applied();
  EXPECT_TRUE(pair.same_content("public.t"));
}

TEST(BadInputStandby, StreamAndNames) {
  Pair pair;
  pair.on_both("CREATE TABLE t (id int PRIMARY KEY)");
  pair.start_sender();
  pair.wait_for_slot();
  expect_receiver_refused(pair, {"another stream",
                                 {{"--stream", "other"}},
                                 2,
                                 {"stream " + pair.name(), "other", "--stream"}});
  pair.start_receiver();
  pair.wait_applied();
  const Changes elsewhere{{"--data-dir", pair.data_dir().parent_path() / "second"},
                          {"--http", free_address()}};
  expect_refused(run(receiver_command(pair, elsewhere)), 2, {"another receiver named", "--name"});
  const Changes same_data{{"--http", free_address()}, {"--name", "second"}};
  expect_refused(run(receiver_command(pair, same_data)), 2,
                 {"another receiver has it open", "--data-dir"});
  const auto elsewhere_standby = fresh_database(shared_standby(), "second_standby");
  execute(elsewhere_standby, "CREATE TABLE t (id int PRIMARY KEY)");
  Changes same_name = elsewhere;
  same_name["--standby"] = elsewhere_standby;
  same_name["--data-dir"] = pair.data_dir().parent_path() / "third";
  expect_refused(run(receiver_command(pair, same_name)), 2, {"already connected", "--name"});
  EXPECT_TRUE(pair.receiver().running());
}

TEST(BadInputStandby, DataDirectory) {
  const Pair pair;
  expect_receiver_refused(
      pair, {"a file", {{"--data-dir", "/etc/passwd"}}, 2, {"/etc/passwd", "--data-dir"}});
  expect_receiver_refused(pair, {"below a file",
                                 {{"--data-dir", "/etc/passwd/data"}},
                                 2,
                                 {"/etc/passwd/data", "--data-dir"}});
  expect_receiver_refused(pair, {"holds other files",
                                 {{"--data-dir", pair.data_dir().parent_path()}},
                                 2,
                                 {"not a receiver's", "empty"}});
}

// Root may write anywhere: these run as the user of the servers then.
TEST(BadInputStandby, UnwritableDirectories) {
  const Pair pair;
  std::filesystem::permissions(pair.data_dir().parent_path(), std::filesystem::perms(0755));
  std::filesystem::permissions(pair.state_dir(), std::filesystem::perms(0500));
  std::filesystem::permissions(pair.data_dir(), std::filesystem::perms(0500));
  const auto as_user = [](std::vector<std::string> command) {
    if (geteuid() != 0) return command;
    const std::vector<std::string> user{"setpriv", "--reuid=postgres", "--regid=postgres",
                                        "--clear-groups", "--"};
    command.insert(command.begin(), user.begin(), user.end());
    return command;
  };
  expect_refused(run(as_user(sender_command(pair))), 2,
                 {pair.state_dir(), "Permission denied", "--state-dir"});
  expect_refused(run(as_user(receiver_command(pair))), 2,
                 {pair.data_dir(), "Permission denied", "--data-dir"});
  const auto below = pair.state_dir() / "new";
  expect_refused(run(as_user(sender_command(pair, {{"--state-dir", below}}))), 2,
                 {below, "--state-dir"});
  expect_refused(run(as_user(receiver_command(pair, {{"--data-dir", below}}))), 2,
                 {below, "--data-dir"});
}

}  // namespace
}  // namespace bitacora::harness
