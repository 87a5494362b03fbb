// What the receiver's file may say wrongly of tables and their targets.
#include <gtest/gtest.h>
#include <signal.h>

#include <fstream>
#include <pqxx/pqxx>

#include "tests/engine/refusal.h"
#include "tests/postgres/database.h"
#include "tests/postgres/pair.h"

namespace bitacora::harness {
namespace {

struct Case {
  std::string name;
  std::string config;
  int exit_code;
  std::vector<std::string> words;
  std::string flag = {};
};

class TargetsBadInput : public testing::Test {
 protected:
  TargetsBadInput() {
    pair_.on_master(
        "CREATE SCHEMA shop; CREATE TABLE shop.a (id int PRIMARY KEY, b text, c text);"
        "CREATE TABLE shop.b (id int PRIMARY KEY)");
    pair_.on_standby(
        "CREATE SCHEMA shop; CREATE TABLE shop.a (id int PRIMARY KEY, b text, c text);"
        "CREATE TABLE shop.b (id int PRIMARY KEY)");
    pair_.start_sender();
    pair_.wait_for_slot();
  }

  Finished receive(const Case& c) {
    std::ofstream(path_) << c.config;
    Changes changes{{"--config", path_}};
    auto command = receiver_command(pair_, changes);
    if (!c.flag.empty()) command.push_back(c.flag);
    return run(command);
  }

  Pair pair_;
  const std::string path_ = testing::TempDir() + "bitacora_targets_bad_input.toml";
};

TEST_F(TargetsBadInput, IsOneLineAndChangesNothing) {
  const std::vector<Case> cases = {
      {"an unknown key",
       "[table.\"shop.a\"]\ncolums = { b = \"x\" }\n",
       2,
       {"line 2", "colums", "columns"}},
      {"a section without a dot",
       "[table.a]\nto = \"shop.x\"\n",
       2,
       {"line 1", "a is no schema.table"}},
      {"a target without a dot",
       "[table.\"shop.a\"]\nto = \"x\"\n",
       2,
       {"line 2", "x is no schema.table"}},
      {"schemas is no table", "schemas = \"shop\"\n", 2, {"line 1", "schemas"}},
      {"a rename onto an existing column",
       "[table.\"shop.a\"]\ncolumns = { b = \"c\" }\n",
       2,
       {"shop.a", "column b and column c", "both be c"}},
      {"a column renamed and left out",
       "[table.\"shop.a\"]\ncolumns = { b = \"x\" }\nleave_out = [\"b\"]\n",
       2,
       {"line 2", "leave_out"}},
      {"the key left out",
       "[table.\"shop.a\"]\nleave_out = [\"id\"]\n",
       2,
       {"shop.a", "id", "replica identity"}},
      {"two tables to one, unsaid",
       "[table.\"shop.b\"]\nto = \"shop.a\"\n",
       2,
       {"shop.a", "shop.b", "shared = true"}},
      {"two to one, said by one only",
       "[table.\"shop.b\"]\nto = \"shop.a\"\nshared = true\n",
       2,
       {"shop.a", "shop.b", "shared = true"}},
      {"a target that is not there",
       "[schemas]\nshop = \"tienda\"\n",
       5,
       {"tienda.a", "shop.a", "create"}},
      {"a constant without its column",
       "[table.\"shop.a\"]\nconstants = { region = \"eu\" }\n",
       5,
       {"shop.a", "region", "ADD COLUMN"}},
      {"a constant that its column does not take",
       "[table.\"shop.a\"]\nleave_out = [\"b\"]\nconstants = { id2 = \"eu\" }\n",
       5,
       {"shop.a", "id2", "eu"}},
      {"a rule that matches nothing",
       "[table.\"shop.x\"]\nto = \"shop.y\"\n",
       2,
       {"shop.x", "matches"},
       "--strict"},
      {"a pattern that matches nothing",
       "tables = [\"shop.*\", \"!shop.audit\"]\n",
       2,
       {"!shop.audit", "matches"},
       "--strict"},
  };
  pair_.on_standby("ALTER TABLE shop.a ADD COLUMN id2 int");
  for (const auto& c : cases) {
    SCOPED_TRACE(c.name);
    expect_refused(receive(c), c.exit_code, c.words);
    EXPECT_EQ(left_on_standby(pair_), "");
    EXPECT_TRUE(eventually([&] { return registered_receivers(pair_).empty(); }));
  }
}

// The table may come later.
TEST_F(TargetsBadInput, AnIdleRuleIsWarnedOf) {
  std::ofstream(path_) << "tables = [\"shop.*\", \"!shop.audit\"]\n[schemas]\nshpo = \"x\"\n";
  Process receiver(receiver_command(pair_, {{"--config", path_}}));
  ASSERT_TRUE(eventually([&] {
    return receiver.error_output().find("pattern_matches_nothing") != std::string::npos;
  }));
  const auto told = receiver.error_output();
  EXPECT_NE(told.find("!shop.audit, [schemas] shpo"), std::string::npos) << told;
  EXPECT_TRUE(receiver.running());
  send_signal(receiver, SIGTERM);
  EXPECT_EQ(receiver.wait(std::chrono::seconds(20)), 0);
}

// A column that one of two tables of a mingled target shares is not copied anew.
TEST_F(TargetsBadInput, AMingledTableIsNotCopiedAnew) {
  std::ofstream(path_) << "[table.\"shop.b\"]\nshared = true\n";
  Process receiver(receiver_command(pair_, {{"--config", path_}}));
  ASSERT_TRUE(eventually([&] {
    return receiver.error_output().find("event=applying") != std::string::npos;
  })) << receiver.error_output();
  const auto resync = Pair::bitacora({"resync", "--http", pair_.receiver_http(), "shop.b"});
  EXPECT_EQ(resync.exit_code, 2);
  EXPECT_NE(resync.error_output.find("cannot be copied anew"), std::string::npos)
      << resync.error_output;
  send_signal(receiver, SIGTERM);
  EXPECT_EQ(receiver.wait(std::chrono::seconds(20)), 0);
}

// Two receivers that do not know of each other, and one table.
TEST_F(TargetsBadInput, TwoReceiversToOneTableUnsaid) {
  std::ofstream(path_) << "[table.\"shop.b\"]\nshared = true\n";
  Process receiver(receiver_command(pair_, {{"--config", path_}}));
  ASSERT_TRUE(eventually([&] {
    return receiver.error_output().find("event=applying") != std::string::npos;
  })) << receiver.error_output();
  const auto other = [&](const std::string& tables, const std::string& config) {
    return receiver_command(pair_, {{"--name", "other"},
                                    {"--http", free_address()},
                                    {"--data-dir", pair_.data_dir().string() + "_other"},
                                    {"--tables", tables},
                                    {"--config", config}});
  };
  expect_refused(run(other("shop.a", path_)), 2,
                 {"shop.a", pair_.name(), "shared = true", "bitacora.progress"});
  expect_refused(run(other("shop.b", "")), 2, {"shop.b", pair_.name()});
  EXPECT_EQ(query_value(pair_.standby(), "SELECT count(*) FROM bitacora.progress"), "1");
  Process sharing(other("shop.b", path_));
  ASSERT_TRUE(eventually([&] {
    return sharing.error_output().find("event=applying") != std::string::npos;
  })) << sharing.error_output();
  for (auto* process : {&sharing, &receiver}) {
    send_signal(*process, SIGTERM);
    EXPECT_EQ(process->wait(std::chrono::seconds(20)), 0);
  }
  // One that is no more is in nobody's way.
  execute(pair_.standby(),
          "DELETE FROM bitacora.progress WHERE subscription = '" + pair_.name() + "'");
  Process alone(other("shop.*", ""));
  EXPECT_TRUE(eventually([&] {
    return alone.error_output().find("event=applying") != std::string::npos;
  })) << alone.error_output();
  send_signal(alone, SIGTERM);
  EXPECT_EQ(alone.wait(std::chrono::seconds(20)), 0);
}

// A table that joins while the receiver runs: by the sender's file and SIGHUP.
class TargetsJoin : public testing::Test {
 protected:
  // Ships `tables`, in a file of its own.
  void say(const Pair& pair, const std::string& tables) const {
    std::ofstream(sender_file(pair.name())) << "tables = [" << tables << "]\n";
  }
  void reload(Pair& pair, const std::string& tables) const {
    say(pair, tables);
    const int before = pair.said("event=reloaded");
    send_signal(pair.sender(), SIGHUP);
    ASSERT_TRUE(eventually([&] { return pair.said("event=reloaded") > before; })) << pair.story();
  }
  static std::string sender_file(const std::string& name) {
    return testing::TempDir() + name + "_sender.toml";
  }
  static PairOptions options(const std::string& name) {
    PairOptions options;
    options.name = name;
    options.sender_arguments = {"--config", sender_file(name)};
    return options;
  }
  static Finished resync(const Pair& pair, const std::string& table) {
    return Pair::bitacora({"resync", "--http", pair.receiver_http(), table});
  }
  static std::string targets(const Pair& pair) {
    return query_value(pair.standby(),
                       "SELECT coalesce(string_agg(table_name, ' ' ORDER BY table_name), '') FROM "
                       "bitacora.targets WHERE subscription = '" +
                           pair.name() + "'");
  }
};

TEST_F(TargetsJoin, ATableOfAnotherReceiverStaysAsItIs) {
  Pair first(options(case_name()));
  auto beside = options(case_name() + "_b");
  beside.standby_database = first.name();
  Pair second(std::move(beside));
  for (const auto* pair : {&first, &second}) {
    pair->on_master(
        "CREATE SCHEMA ventas; CREATE TABLE ventas.orders (id int PRIMARY KEY, v text);"
        "CREATE TABLE ventas.own (id int PRIMARY KEY); CREATE TABLE ventas.more (id int PRIMARY "
        "KEY)");
  }
  first.on_standby(
      "CREATE SCHEMA ventas; CREATE TABLE ventas.orders (id int PRIMARY KEY, v text);"
      "CREATE TABLE ventas.own (id int PRIMARY KEY); CREATE TABLE ventas.more (id int PRIMARY "
      "KEY)");
  say(first, "\"ventas.orders\"");
  say(second, "\"ventas.own\"");
  first.start();
  second.start();
  first.on_master("INSERT INTO ventas.orders SELECT i, 'first' FROM generate_series(1, 7) i");
  second.on_master("INSERT INTO ventas.own VALUES (1)");
  first.wait_applied();
  second.wait_applied();
  const auto orders = [&] {
    return query_value(first.standby(),
                       "SELECT count(*) FILTER (WHERE v = 'first') || ' of ' || count(*) FROM "
                       "ventas.orders");
  };

  // What is nobody's is taken, and noted; what is not shipped is not.
  reload(second, "\"ventas.own\", \"ventas.more\"");
  EXPECT_NE(resync(second, "ventas.orders").exit_code, 0);
  EXPECT_EQ(targets(second), "own");
  second.on_master("INSERT INTO ventas.more VALUES (1)");
  second.wait_applied();
  EXPECT_EQ(targets(second), "more own");

  reload(second, "\"ventas.own\", \"ventas.more\", \"ventas.orders\"");
  expect_refused(resync(second, "ventas.orders"), 2,
                 {"ventas.orders", first.name(), "shared = true", "bitacora.progress"});
  EXPECT_EQ(orders(), "7 of 7");
  EXPECT_TRUE(second.receiver().running());
  second.on_master("INSERT INTO ventas.orders VALUES (100, 'second')");
  expect_ends_refused(second.receiver(), 2, {"ventas.orders", first.name(), "shared = true"});
  EXPECT_EQ(orders(), "7 of 7");
  EXPECT_EQ(targets(first), "orders");
  EXPECT_EQ(targets(second), "more own");
  first.on_master("INSERT INTO ventas.orders VALUES (8, 'first')");
  first.wait_applied();
  EXPECT_EQ(orders(), "8 of 8");
}

TEST_F(TargetsJoin, ASecondTableToOneTargetUnsaid) {
  auto with_file = options(case_name());
  const auto receiver_file = testing::TempDir() + with_file.name + "_receiver.toml";
  std::ofstream(receiver_file) << "[table.\"public.ff\"]\nto = \"public.f2\"\n"
                                  "[table.\"public.late\"]\nto = \"public.f2\"\n";
  with_file.receiver_arguments = {"--config", receiver_file};
  Pair pair(std::move(with_file));
  pair.on_master("CREATE TABLE ff (id int PRIMARY KEY)");
  pair.on_standby("CREATE TABLE f2 (id int PRIMARY KEY)");
  say(pair, "\"public.ff\"");
  pair.start();
  pair.on_master("INSERT INTO ff SELECT generate_series(1, 20)");
  pair.wait_applied();
  const auto rows = [&] { return query_value(pair.standby(), "SELECT count(*) FROM f2"); };

  pair.on_master("CREATE TABLE late (id int PRIMARY KEY); INSERT INTO late VALUES (50)");
  reload(pair, "\"public.ff\", \"public.late\"");
  expect_refused(resync(pair, "public.late"), 2,
                 {"public.late", "public.ff", "public.f2", "shared = true"});
  EXPECT_EQ(rows(), "20");
  EXPECT_TRUE(pair.receiver().running());
  EXPECT_EQ(targets(pair), "f2");
  pair.on_master("INSERT INTO ff VALUES (21)");
  pair.wait_applied();
  EXPECT_EQ(rows(), "21");
}

TEST_F(TargetsJoin, ASecondTablesChangesStopTheReceiver) {
  auto with_file = options(case_name());
  const auto receiver_file = testing::TempDir() + with_file.name + "_receiver.toml";
  std::ofstream(receiver_file) << "[table.\"public.late\"]\nto = \"public.ff\"\n";
  with_file.receiver_arguments = {"--config", receiver_file};
  Pair pair(std::move(with_file));
  pair.on_both("CREATE TABLE ff (id int PRIMARY KEY); CREATE TABLE other (id int PRIMARY KEY)");
  pair.on_standby("INSERT INTO ff SELECT generate_series(1, 20)");
  say(pair, "\"public.ff\", \"public.other\"");
  pair.start();
  pair.on_master("INSERT INTO other VALUES (1)");
  pair.wait_applied();
  pair.on_master("CREATE TABLE late (id int PRIMARY KEY)");
  reload(pair, "\"public.ff\", \"public.other\", \"public.late\"");
  pair.on_master("INSERT INTO late VALUES (50)");  // before any change of ff
  expect_ends_refused(pair.receiver(), 2, {"public.late", "public.ff", "shared = true"});
  EXPECT_EQ(query_value(pair.standby(), "SELECT count(*) FROM ff"), "20");
}

// Its rows are in the spool when the sender's file takes it away: it cannot be copied any more, and
// must not be in the others' way.
TEST_F(TargetsJoin, ANewTableThatIsShippedNoMoreIsPassedOver) {
  auto making = options(case_name());
  making.copy = true;
  making.receiver_arguments = {"--create-schema"};
  Pair pair(std::move(making));
  pair.on_both("CREATE TABLE other (id int PRIMARY KEY)");
  say(pair, "\"public.*\"");
  pair.start();
  pair.on_master("INSERT INTO other VALUES (1)");
  pair.wait_applied();
  {
    pqxx::connection connection(pair.standby());
    pqxx::work holding(connection);
    holding.exec("LOCK TABLE other IN SHARE MODE");
    pair.on_master("INSERT INTO other VALUES (2)");
    pair.on_master("CREATE TABLE secret (id int PRIMARY KEY)");
    reload(pair, "\"public.*\"");
    pair.on_master("INSERT INTO secret VALUES (1)");
    pair.on_master("INSERT INTO other VALUES (3)");
    const auto end = query_value(pair.master(), "SELECT pg_current_wal_flush_lsn()");
    EXPECT_TRUE(eventually([&] {
      return query_value(pair.master(), "SELECT confirmed_flush_lsn >= '" + end +
                                            "' FROM pg_replication_slots WHERE database = "
                                            "current_database()") == "t";
    })) << pair.story();
    reload(pair, "\"public.other\"");
    ASSERT_TRUE(eventually([&] { return pair.said("event=receiving") >= 3; })) << pair.story();
  }
  pair.wait_applied();
  EXPECT_EQ(query_value(pair.standby(), "SELECT count(*) FROM other"), "3");
  EXPECT_EQ(pair.said("event=table_not_shipped_any_more table=public.secret"), 1);
  // It is welcome again.
  reload(pair, "\"public.*\"");
  pair.on_master("INSERT INTO secret VALUES (2)");
  EXPECT_TRUE(eventually([&] {
    return query_value(pair.standby(), "SELECT to_regclass('secret') IS NOT NULL") == "t" &&
           pair.same_content("public.secret");
  })) << pair.story();
}

}  // namespace
}  // namespace bitacora::harness
