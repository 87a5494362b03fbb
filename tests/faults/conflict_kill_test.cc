// Conflicts through whole pairs: what the status and the log say, the configuration file, and a
// receiver that is killed while it resolves one.
#include <gtest/gtest.h>

#include <fstream>

#include "tests/postgres/database.h"
#include "tests/postgres/pair.h"

namespace bitacora::harness {
namespace {

PairOptions with_rules(const std::vector<std::string>& rules) {
  PairOptions options;
  options.binary = BITACORA_FAULTS_BINARY;
  for (const auto& rule : rules)
    options.receiver_arguments.insert(options.receiver_arguments.end(), {"--conflict", rule});
  return options;
}

class ConflictPair : public testing::Test {
 protected:
  static void begin(Pair& pair) {
    pair.on_both(
        "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE o (id int PRIMARY KEY)");
    pair.start();
    pair.on_master("INSERT INTO t VALUES (0, 'first')");
    pair.wait_applied();
    pair.on_standby("INSERT INTO t VALUES (1, 'local')");
  }
  static void make_conflict(const Pair& pair) {
    pair.on_master(
        "BEGIN; INSERT INTO o VALUES (1); INSERT INTO t VALUES (1, 'remote'), (2, 'two');"
        "INSERT INTO o VALUES (2); COMMIT");
  }
  static bool counts(const Pair& pair, const std::string& conflicts) {
    const auto status = Pair::bitacora({"status", "--http", pair.receiver_http(), "--json"});
    return status.output.find("\"conflicts\":" + conflicts + ",") != std::string::npos;
  }
  static std::string logged(const Pair& pair) {
    return query_value(pair.standby(),
                       "SELECT string_agg(concat_ws('|', subscription, schema_name, table_name,"
                       " conflict_type, key, local_row, remote_row), ' ') FROM bitacora.conflicts"
                       " WHERE commit_lsn > '0/0' AND commit_time > now() - interval '1 hour'");
  }
  static std::string expected(const Pair& pair) {
    return pair.name() +
           R"(|public|t|insert_exists|{"id": 1}|{"v": "local", "id": 1}|{"v": "remote", "id": 1})";
  }
};

TEST_F(ConflictPair, IsCountedAndTold) {
  Pair pair(with_rules({"public.t=overwrite", "public.misspelt=keep"}));
  begin(pair);
  EXPECT_TRUE(counts(pair, "0"));
  make_conflict(pair);
  pair.wait_applied();
  EXPECT_TRUE(pair.same_content("public.t"));
  EXPECT_TRUE(pair.same_content("public.o"));
  EXPECT_EQ(logged(pair), expected(pair));
  EXPECT_TRUE(eventually([&] { return counts(pair, "1"); }));
  const auto story = pair.story();
  EXPECT_NE(story.find("event=conflict table=public.t type=insert_exists policy=overwrite"),
            std::string::npos);
  EXPECT_NE(story.find("event=conflict_rule_idle rule=\"public.misspelt=keep\""),
            std::string::npos);
  EXPECT_EQ(story.find("rule=\"public.t="), std::string::npos);
}

TEST_F(ConflictPair, ByTheFile) {
  auto options = with_rules({});
  const auto file = testing::TempDir() + "bitacora_conflict.toml";
  std::ofstream(file) << "conflict = [\"public.*=overwrite\", \"public.t=keep\"]\n";
  options.receiver_arguments = {"--config", file};
  Pair pair(std::move(options));
  begin(pair);
  make_conflict(pair);
  pair.wait_applied();
  EXPECT_EQ(query_value(pair.standby(), "SELECT string_agg(v, ' ' ORDER BY id) FROM t"),
            "first local two");
}

// The path that fails sends four rows, the careful one again; the ninth is sent to resolve.
TEST_F(ConflictPair, KilledWhileResolving) {
  for (const std::string fault : {"apply.before_row:9", "apply.before_commit:2",
                                  "apply.after_commit_sent:2", "apply.after_commit:1"}) {
    SCOPED_TRACE(fault);
    auto options = with_rules({"public.t=overwrite"});
    options.receiver_arguments.insert(options.receiver_arguments.end(), {"--apply-path", "exact"});
    Pair pair(std::move(options));
    begin(pair);
    pair.stop_receiver();
    make_conflict(pair);
    pair.start_receiver({"BITACORA_FAULT=" + fault});
    EXPECT_TRUE(eventually([&] { return !pair.receiver().running(); })) << pair.story();
    pair.kill_receiver();
    pair.start_receiver();
    pair.wait_applied();
    EXPECT_TRUE(pair.same_content("public.t"));
    EXPECT_TRUE(pair.same_content("public.o"));
    EXPECT_EQ(logged(pair), expected(pair));
  }
}

}  // namespace
}  // namespace bitacora::harness
