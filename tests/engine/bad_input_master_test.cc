// A sender that is told something wrong says so in one line and leaves nothing on the master.
#include <gtest/gtest.h>

#include <pqxx/pqxx>

#include "tests/engine/refusal.h"
#include "tests/postgres/database.h"

namespace bitacora::harness {
namespace {

PairOptions named(const std::string& name) {
  PairOptions options;
  options.name = name;
  return options;
}

TEST(BadInputMaster, Conninfo) {
  prepend_hba(
      shared_master(),
      "host all outsider 127.0.0.1/32 reject\nhost all locked 127.0.0.1/32 scram-sha-256\n");
  fresh_role(shared_master().conninfo(), "outsider", "LOGIN REPLICATION");
  fresh_role(shared_master().conninfo(), "locked", "LOGIN REPLICATION PASSWORD 'right'");
  const Pair pair;
  const std::string good = pair.master();
  for (const Refusal& refusal : {
           Refusal{"syntax",
                   {{"--master", "host=127.0.0.1 prot=1"}},
                   2,
                   {"--master", "prot", "for example"}},
           Refusal{"unknown host",
                   {{"--master", good + " host=nowhere.invalid"}},
                   4,
                   {"nowhere.invalid", "check the host"}},
           Refusal{"wrong port",
                   {{"--master", good + " port=1"}},
                   4,
                   {"port 1", "check that the server runs", "--master"}},
           Refusal{"no such socket",
                   {{"--master", good + " host=/nowhere"}},
                   4,
                   {"/nowhere", "check that the server runs"}},
           Refusal{"wrong password",
                   {{"--master", good + " user=locked password=wrong"}},
                   4,
                   {"locked", "PGPASSWORD"}},
           Refusal{
               "no password", {{"--master", good + " user=locked"}}, 4, {"password", "PGPASSWORD"}},
           Refusal{"not in pg_hba.conf",
                   {{"--master", good + " user=outsider"}},
                   4,
                   {"outsider", "pg_hba.conf", "reload"}},
           Refusal{"unknown database",
                   {{"--master", good + " dbname=nowhere"}},
                   4,
                   {"\"nowhere\"", "dbname", "--master"}},
           Refusal{"unknown role",
                   {{"--master", good + " user=nobody"}},
                   4,
                   {"\"nobody\"", "CREATE ROLE"}},
       }) {
    expect_sender_refused(pair, refusal);
  }
}

TEST(BadInputMaster, Rights) {
  fresh_role(shared_master().conninfo(), "plain", "LOGIN");
  fresh_role(shared_master().conninfo(), "reader", "LOGIN REPLICATION");
  const Pair pair;
  pair.on_master("CREATE TABLE t (id int PRIMARY KEY)");
  const std::string good = pair.master();
  expect_sender_refused(
      pair,
      {"no REPLICATION", {{"--master", good + " user=plain"}}, 4, {"ALTER ROLE", "REPLICATION"}});
  expect_sender_refused(pair, {"no CREATE",
                               {{"--master", good + " user=reader"}},
                               4,
                               {"publication bitacora_", "CREATE PUBLICATION"}});
  pair.on_master("GRANT CREATE ON DATABASE " + pair.name() + " TO reader");
  expect_sender_refused(pair, {"no superuser",
                               {{"--master", good + " user=reader"}},
                               4,
                               {"superuser", "CREATE PUBLICATION"}});
  expect_sender_refused(pair, {"not the owner",
                               {{"--master", good + " user=reader"}, {"--tables", "public.t"}},
                               4,
                               {"owner", "CREATE PUBLICATION"}});
}

TEST(BadInputMaster, Tables) {
  const Pair pair;
  pair.on_master("CREATE TABLE t (id int PRIMARY KEY)");
  expect_sender_refused(
      pair, {"matches nothing", {{"--tables", "nowhere.*"}}, 2, {"--tables", "pg_tables"}});
  expect_sender_refused(
      pair, {"excludes all", {{"--tables", "!public.*"}}, 2, {"--tables", "pg_tables"}});
  expect_sender_refused(pair,
                        {"three names", {{"--tables", "a.b.c"}}, 1, {"a.b.c", "schema.table"}});
  expect_sender_refused(pair,
                        {"empty name", {{"--tables", "public."}}, 1, {"public.", "schema.table"}});
}

TEST(BadInputMaster, SqlAscii) {
  const Pair pair;
  execute(shared_master().conninfo(), "DROP DATABASE IF EXISTS no_encoding WITH (FORCE)");
  execute(shared_master().conninfo(),
          "CREATE DATABASE no_encoding ENCODING 'SQL_ASCII' TEMPLATE template0");
  expect_sender_refused(pair, {"SQL_ASCII",
                               {{"--master", shared_master().conninfo("no_encoding")}},
                               4,
                               {"SQL_ASCII", "UTF8"}});
  EXPECT_EQ(query_value(shared_master().conninfo(), "SELECT count(*) FROM pg_replication_slots"),
            "0");
}

TEST(BadInputMaster, Listening) {
  const Pair pair;
  Pair other(named("occupier"));
  other.start_sender();
  other.wait_for_slot();
  expect_sender_refused(pair, {"gRPC port in use",
                               {{"--listen", other.sender_address()}},
                               2,
                               {other.sender_address(), "--listen"}});
  expect_sender_refused(
      pair,
      {"http port in use", {{"--http", other.sender_http()}}, 2, {other.sender_http(), "--http"}});
  expect_sender_refused(
      pair,
      {"plaintext for all", {{"--listen", "0.0.0.0:7432"}}, 2, {"0.0.0.0:7432", "--tls-cert"}});
  expect_sender_refused(pair, {"half of TLS", {{"--tls-ca", "/nowhere"}}, 2, {"TLS", "--tls-key"}});
  expect_sender_refused(
      pair, {"no such file",
             {{"--tls-ca", "/nowhere"}, {"--tls-cert", "/nowhere"}, {"--tls-key", "/nowhere"}},
             2,
             {"--tls-cert /nowhere", "PEM"}});
}

// Of a server with its own settings: what is missing is counted in slots and walsenders.
TEST(BadInputMaster, Settings) {
  engine::ClusterOptions options;
  options.settings = {{"max_replication_slots", "1"}, {"max_wal_senders", "1"}};
  auto cluster = engine::ThrowawayCluster::make("strict", options).value();
  const Pair pair(cluster, shared_standby());
  const auto conninfo = cluster.conninfo();
  {
    pqxx::connection walsender(conninfo + " replication=database");
    expect_sender_refused(pair, {"no walsender", {}, 4, {"max_wal_senders", "raise"}});
  }
  ASSERT_TRUE(eventually([&] {
    return query_value(conninfo,
                       "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender'") ==
           "0";
  }));
  execute(conninfo, "SELECT pg_create_physical_replication_slot('taken')");
  expect_sender_refused(
      pair, {"no slot", {}, 4, {"replication slots are in use", "max_replication_slots"}});
  execute(conninfo, "SELECT pg_drop_replication_slot('taken')");
  execute(conninfo, "ALTER SYSTEM SET wal_level = replica");
  ASSERT_TRUE(cluster.stop().ok());
  expect_refused(run(sender_command(pair)), 4,
                 {"port " + std::to_string(cluster.port()), "check that the server runs"});
  ASSERT_TRUE(cluster.start().ok());
  expect_sender_refused(
      pair, {"wal_level", {}, 4, {"wal_level = replica", "ALTER SYSTEM SET wal_level = logical"}});
}

TEST(BadInputMaster, StateDirectory) {
  const Pair pair;
  Pair other(named("foreign_state"));
  other.start_sender();
  other.wait_for_slot();
  expect_sender_refused(
      pair, {"in use", {{"--state-dir", other.state_dir()}}, 2, {"another sender", "--state-dir"}});
  EXPECT_EQ(other.stop_sender(), 0);
  expect_sender_refused(pair, {"another database's",
                               {{"--state-dir", other.state_dir()}},
                               3,
                               {"foreign_state", pair.name(), "--state-dir"}});
  expect_refused(
      run(sender_command(other, {{"--master", shared_standby().conninfo("foreign_state")}})), 3,
      {"system", "--state-dir"});
  expect_sender_refused(pair, {"holds other files",
                               {{"--state-dir", pair.data_dir().parent_path()}},
                               2,
                               {"not a sender's", "empty"}});
  expect_sender_refused(
      pair, {"a file", {{"--state-dir", "/etc/passwd"}}, 2, {"/etc/passwd", "--state-dir"}});
  expect_sender_refused(pair, {"below a file",
                               {{"--state-dir", "/etc/passwd/state"}},
                               2,
                               {"/etc/passwd/state", "--state-dir"}});
}

TEST(BadInputMaster, SecondSender) {
  Pair pair;
  pair.start_sender();
  pair.wait_for_slot();
  const Changes elsewhere{{"--listen", free_address()},
                          {"--http", free_address()},
                          {"--state-dir", pair.state_dir() / ".." / "second"}};
  Changes same_state = elsewhere;
  same_state["--state-dir"] = pair.state_dir();
  expect_refused(run(sender_command(pair, same_state)), 2, {"another sender", "--state-dir"});
  expect_refused(run(sender_command(pair, elsewhere)), 4,
                 {"another sender serves slot", "--stream"});
  EXPECT_TRUE(pair.sender().running());
}

}  // namespace
}  // namespace bitacora::harness
