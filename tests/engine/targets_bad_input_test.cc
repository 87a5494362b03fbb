// What the receiver's file may say wrongly of tables and their targets.
#include <gtest/gtest.h>

#include <fstream>

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

}  // namespace
}  // namespace bitacora::harness
