// Roles that may no more than the README grants: the first copy and a resync do what they can with
// that, and what they cannot is refused with the GRANT.
#include <gtest/gtest.h>

#include <map>
#include <stdexcept>

#include <fmt/format.h>

#include "tests/engine/refusal.h"
#include "tests/postgres/database.h"
#include "tests/postgres/servers.h"

namespace bitacora::harness {
namespace {

struct Versions {
  int master;
  int standby;
};

constexpr const char* kTables =
    "CREATE TABLE t (id serial PRIMARY KEY, v text); CREATE TABLE referring (id int PRIMARY KEY, t "
    "int REFERENCES t); CREATE TABLE keyless (v int); CREATE TABLE tree (id int PRIMARY KEY) "
    "PARTITION BY RANGE (id); CREATE TABLE leaf PARTITION OF tree DEFAULT; CREATE SEQUENCE plain";
constexpr const char* kRows =
    "INSERT INTO t (v) SELECT 'v' || i FROM generate_series(1, 3000) i; INSERT INTO referring "
    "SELECT i, i FROM generate_series(1, 100) i; INSERT INTO keyless VALUES (1), (1), (2); INSERT "
    "INTO tree SELECT generate_series(1, 50); SELECT nextval('plain')";
constexpr const char* kShown[] = {"public.t", "public.referring", "public.keyless", "public.leaf"};

// A pair of databases, and a role of the pair's name on both sides.
class Restricted {
 public:
  Restricted(engine::ThrowawayCluster& master, engine::ThrowawayCluster& standby,
             const std::string& name)
      : pair_(master, standby, {name, {}, {}, {}, true}) {
    fresh_role(master.conninfo(), role(), "LOGIN REPLICATION");
    fresh_role(standby.conninfo(), role(), "LOGIN");
    for (const auto& conninfo : {pair_.master(), pair_.standby()}) {
      execute(conninfo,
              fmt::format("REVOKE ALL ON DATABASE {} FROM PUBLIC; REVOKE CREATE ON SCHEMA "
                          "public FROM PUBLIC; GRANT CONNECT ON DATABASE {} TO {}",
                          pair_.name(), pair_.name(), role()));
    }
  }
  void grant_on_master() const {
    pair_.on_master(
        fmt::format("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {}; CREATE "
                    "PUBLICATION bitacora_{} FOR ALL TABLES",
                    role(), pair_.name()));
  }
  // As the README has it.
  void grant_on_standby() const {
    pair_.on_standby(fmt::format(
        "CREATE SCHEMA bitacora AUTHORIZATION {0}; GRANT INSERT, UPDATE, DELETE, SELECT ON ALL "
        "TABLES IN SCHEMA public TO {0}; GRANT TEMPORARY ON DATABASE {1} TO {0}; GRANT SET ON "
        "PARAMETER session_replication_role TO {0}",
        role(), pair_.name()));
  }
  Changes sender() const { return {{"--master", as_role(pair_.master())}}; }
  Changes receiver(Changes more = {}) const {
    more.merge(Changes{{"--standby", as_role(pair_.standby())}, {"--no-copy", ""}});
    return more;
  }
  std::string as_role(const std::string& conninfo) const { return conninfo + " user=" + role(); }
  const std::string& role() const { return pair_.name(); }
  Pair& pair() { return pair_; }

 private:
  Pair pair_;
};

void expect_equal(Pair& pair, const Process& receiver) {
  pair.wait_applied();
  for (const auto* table : kShown) {
    SCOPED_TRACE(table);
    EXPECT_TRUE(pair.same_content(table)) << receiver.error_output();
  }
}

class CopyRights : public testing::TestWithParam<Versions> {};

TEST_P(CopyRights, OfTheReadmeAreEnough) {
  const auto [master, standby] = GetParam();
  for (const int version : {master, standby}) {
    if (!available_servers().contains(version)) GTEST_SKIP() << why_missing(version);
  }
  Restricted restricted(server_of(master, "master"), server_of(standby, "standby"),
                        fmt::format("copy_rights_{}_{}", master, standby));
  Pair& pair = restricted.pair();
  pair.on_both(kTables);
  pair.on_master(kRows);
  restricted.grant_on_master();
  restricted.grant_on_standby();
  Process sender(sender_command(pair, restricted.sender()));
  pair.wait_for_slot();
  Process receiver(receiver_command(pair, restricted.receiver({{"--sequences-interval", "1s"}})));
  pair.on_master("UPDATE t SET v = v || '!' WHERE id % 2 = 0");
  expect_equal(pair, receiver);
  // Nothing may be done to sequences, which is said and stops nothing.
  EXPECT_TRUE(eventually([&] {
    return receiver.error_output().find("event=sequences_left") != std::string::npos;
  })) << receiver.error_output();
  for (const char* words : {"public.plain", "public.t_id_seq", "GRANT SELECT", "GRANT UPDATE"})
    EXPECT_NE(receiver.error_output().find(words), std::string::npos) << words;
  // A foreign key refers to t, and nobody may TRUNCATE it: its rows are deleted.
  pair.on_standby("DELETE FROM referring; UPDATE t SET v = 'mine'; INSERT INTO t VALUES (-1)");
  for (const char* table : {"public.t", "public.referring"}) {
    const auto done = Pair::bitacora({"resync", "--http", pair.receiver_http(), table});
    EXPECT_EQ(done.exit_code, 0) << done.error_output << receiver.error_output();
  }
  pair.on_master("DELETE FROM t WHERE id > 2900");
  expect_equal(pair, receiver);
  EXPECT_TRUE(sender.running());
  EXPECT_TRUE(receiver.running());
  // And once it has the right, the sequences follow.
  pair.on_master(
      fmt::format("GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO {}", restricted.role()));
  pair.on_standby(
      fmt::format("GRANT UPDATE ON ALL SEQUENCES IN SCHEMA public TO {}", restricted.role()));
  EXPECT_TRUE(eventually([&] {
    return query_value(pair.standby(), "SELECT last_value FROM t_id_seq") == "3000";
  })) << receiver.error_output();
}

INSTANTIATE_TEST_SUITE_P(PostgreSql, CopyRights,
                         testing::Values(Versions{15, 15}, Versions{14, 18}, Versions{18, 16}),
                         [](const auto& versions) {
                           return fmt::format("From{}To{}", versions.param.master,
                                              versions.param.standby);
                         });

TEST(CopyRightsMissing, TruncateIsDoneByDelete) {
  Restricted restricted(shared_master(), shared_standby(), case_name());
  Pair& pair = restricted.pair();
  pair.on_both(kTables);
  pair.on_both(kRows);
  pair.on_standby("UPDATE t SET v = 'mine'");
  restricted.grant_on_master();
  restricted.grant_on_standby();
  Process sender(sender_command(pair, restricted.sender()));
  pair.wait_for_slot();
  Process receiver(receiver_command(pair, restricted.receiver({{"--truncate", "true"}})));
  expect_equal(pair, receiver);
}

TEST(CopyRightsMissing, ToMakeTheSchemaIsRefusedWithTheGrant) {
  Restricted restricted(shared_master(), shared_standby(), case_name());
  Pair& pair = restricted.pair();
  pair.on_master(kTables);
  pair.on_master(kRows);
  pair.on_master("CREATE SCHEMA shop; CREATE TABLE shop.more (id int PRIMARY KEY)");
  restricted.grant_on_master();
  pair.on_master("GRANT USAGE ON SCHEMA shop TO " + restricted.role() +
                 "; GRANT SELECT ON ALL TABLES IN SCHEMA shop TO " + restricted.role());
  restricted.grant_on_standby();
  Process sender(sender_command(pair, restricted.sender()));
  pair.wait_for_slot();
  const auto making = restricted.receiver({{"--create-schema", "true"}});
  const auto nothing_made = [&] {
    EXPECT_EQ(query_value(pair.standby(),
                          "SELECT coalesce(to_regclass('t'), to_regclass('tree')) IS "
                          "NULL AND to_regnamespace('shop') IS NULL"),
              "t");
  };
  expect_receiver_refused(
      pair,
      {"in the database",
       making,
       5,
       {"shop", fmt::format("GRANT CREATE ON DATABASE \"{}\"", pair.name()), restricted.role()}});
  nothing_made();
  pair.on_standby(fmt::format("GRANT CREATE ON DATABASE {} TO {}", pair.name(), restricted.role()));
  expect_receiver_refused(
      pair, {"in a schema",
             making,
             5,
             {fmt::format("GRANT CREATE ON SCHEMA \"public\" TO \"{}\"", restricted.role())}});
  nothing_made();
  pair.on_standby("GRANT CREATE ON SCHEMA public TO " + restricted.role());
  Process receiver(receiver_command(pair, making));
  expect_equal(pair, receiver);
  EXPECT_TRUE(pair.same_content("shop.more"));
}

TEST(CopyRightsMissing, OnTheMastersTablesAreAllNamed) {
  Restricted restricted(shared_master(), shared_standby(), case_name());
  Pair& pair = restricted.pair();
  pair.on_both(kTables);
  pair.on_both("CREATE SCHEMA shop; CREATE TABLE shop.more (id int PRIMARY KEY)");
  restricted.grant_on_master();
  pair.on_master("REVOKE SELECT ON t, leaf FROM " + restricted.role());
  restricted.grant_on_standby();
  Process sender(sender_command(pair, restricted.sender()));
  pair.wait_for_slot();
  expect_receiver_refused(
      pair, {"may not read",
             restricted.receiver({{"--tables", "public.*"}}),
             4,
             {"GRANT SELECT ON", "public.leaf", "public.t", "TO " + restricted.role()}});
  expect_receiver_refused(pair,
                          {"may not look into the schema",
                           restricted.receiver(),
                           4,
                           {"shop.more", "GRANT USAGE ON SCHEMA shop TO " + restricted.role()}});
}

}  // namespace
}  // namespace bitacora::harness
