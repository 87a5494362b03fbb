// Every kind of conflict, by every policy, on every path: what the standby holds afterwards, and
// what bitacora.conflicts says.
#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>

#include "tests/apply/conflict_session.h"

namespace bitacora::apply {
namespace {

struct Kind {
  const char* name;
  const char* first;   // on the master, applied
  const char* drift;   // on the standby
  const char* change;  // on the master, in conflict
  std::string left;    // rows without the change
  std::string overwritten;
  const char* logged;  // without the policy; %s
};

// Every # is the kind's own digit: all of them meet in one table.
const std::vector<Kind>& kinds() {
  static const std::vector<Kind> kKinds = {
      {"INSERT of a key that is there", "", "INSERT INTO t VALUES (#1, 'local', #10)",
       "INSERT INTO t VALUES (#1, 'remote', #11)", "(#1,local,#10)", "(#1,remote,#11)",
       R"(insert_exists|INSERT|%s|{"id": #1}|{"u": #10, "v": "local", "id": #1}|)"
       R"({"u": #11, "v": "remote", "id": #1})"},
      {"INSERT under a second unique index", "", "INSERT INTO t VALUES (#7, 'local', #10)",
       "INSERT INTO t VALUES (#1, 'remote', #10)", "(#7,local,#10)", "(#1,remote,#10)",
       R"(insert_exists|INSERT|%s|{"id": #1}|{"u": #10, "v": "local", "id": #7}|)"
       R"({"u": #10, "v": "remote", "id": #1})"},
      {"INSERT under two of them", "",
       "INSERT INTO t VALUES (#1, 'local', #10), (#7, 'local', #11)",
       "INSERT INTO t VALUES (#1, 'remote', #11)", "(#1,local,#10) (#7,local,#11)",
       "(#1,remote,#11)",
       R"(multiple_unique_conflicts|INSERT|%s|{"id": #1}|[{"u": #10, "v": "local", "id": #1}, )"
       R"({"u": #11, "v": "local", "id": #7}]|{"u": #11, "v": "remote", "id": #1})"},
      {"UPDATE of no row", "INSERT INTO t VALUES (#1, 'old', #10)", "DELETE FROM t WHERE id = #1",
       "UPDATE t SET v = 'remote' WHERE id = #1", "", "(#1,remote,#10)",
       R"(update_missing|UPDATE|%s|{"id": #1}|-|{"u": #10, "v": "remote", "id": #1})"},
      {"UPDATE of the key of no row", "INSERT INTO t VALUES (#1, 'old', #10)",
       "DELETE FROM t WHERE id = #1; INSERT INTO t VALUES (#2, 'local', #20)",
       "UPDATE t SET id = #2 WHERE id = #1", "(#2,local,#20)", "(#2,old,#10)",
       R"(update_missing|UPDATE|%s|{"id": #1}|@|{"u": #10, "v": "old", "id": #2})"},
      {"UPDATE to a second key that is there", "INSERT INTO t VALUES (#1, 'old', #10)",
       "INSERT INTO t VALUES (#7, 'local', #11)", "UPDATE t SET u = #11 WHERE id = #1",
       "(#1,old,#10) (#7,local,#11)", "(#1,old,#11)",
       R"(update_exists|UPDATE|%s|{"id": #1}|{"u": #11, "v": "local", "id": #7}|)"
       R"({"u": #11, "v": "old", "id": #1})"},
      {"UPDATE to a key that is there", "INSERT INTO t VALUES (#1, 'old', #10)",
       "INSERT INTO t VALUES (#7, 'local', #11)", "UPDATE t SET id = #7 WHERE id = #1",
       "(#1,old,#10) (#7,local,#11)", "(#7,old,#10)",
       R"(update_exists|UPDATE|%s|{"id": #1}|{"u": #11, "v": "local", "id": #7}|)"
       R"({"u": #10, "v": "old", "id": #7})"},
      {"DELETE of no row", "INSERT INTO t VALUES (#1, 'old', #10)", "DELETE FROM t WHERE id = #1",
       "DELETE FROM t WHERE id = #1", "", "",
       R"(delete_missing|DELETE|%s|{"id": #1}|-|{"id": #1})"},
  };
  return kKinds;
}

std::string of_kind(std::string text, std::size_t kind) {
  const auto digit = static_cast<char>('1' + kind);
  std::replace(text.begin(), text.end(), '#', digit);
  return text;
}

std::string joined(const std::vector<std::string>& parts, const char* separator) {
  std::string all;
  for (const auto& part : parts) all += part.empty() ? "" : (all.empty() ? "" : separator) + part;
  return all;
}

class ConflictMatrix : public ConflictTest {
 protected:
  void SetUp() override {
    ConflictTest::SetUp();
    for (const auto& conninfo : {master(), standby()})
      harness::execute(conninfo,
                       "CREATE TABLE t (id int PRIMARY KEY, v text, u int UNIQUE);"
                       "CREATE TABLE other (id int PRIMARY KEY)");
    const ApplySession first(standby(), options(Way::kOneTrip, {}));
  }

  // What leads to the conflicts of these kinds is on both sides; they themselves are not taken.
  Applier::Batch play(PlayedMaster& played, Way way, std::size_t from, std::size_t to) {
    begin_case(played, "DELETE FROM t; DELETE FROM other");
    for (auto kind = from; kind < to; ++kind) {
      if (*kinds()[kind].first != '\0') played.transaction({of_kind(kinds()[kind].first, kind)});
    }
    EXPECT_TRUE(take(played.take(), options(way, {})).ok());
    played.reconnect();
    for (auto kind = from; kind < to; ++kind) {
      on_standby(of_kind(kinds()[kind].drift, kind));
      played.transaction({of_kind("INSERT INTO other VALUES (#1)", kind),
                          of_kind(kinds()[kind].change, kind),
                          of_kind("INSERT INTO other VALUES (#2)", kind)});
    }
    return played.take();
  }

  static std::string logged_as(std::size_t kind, const std::string& policy) {
    std::string line = kinds()[kind].logged;
    line.replace(line.find("%s"), 2, policy);
    const auto local = line.find('@');  // met only on the way to overwrite
    if (local != std::string::npos)
      line.replace(local, 1, policy == "overwrite" ? R"({"u": #20, "v": "local", "id": #2})" : "-");
    return of_kind(line, kind);
  }
};

TEST_F(ConflictMatrix, EveryKindPolicyAndPath) {
  for (const std::string policy : {"keep", "overwrite", "skip"}) {
    std::vector<std::string> left;
    std::vector<std::string> lines;
    for (std::size_t kind = 0; kind < kinds().size(); ++kind) {
      const bool overwrites = policy == "overwrite";
      left.push_back(of_kind(overwrites ? kinds()[kind].overwritten : kinds()[kind].left, kind));
      lines.push_back(logged_as(kind, policy));
    }
    for (const Way way : kWays) {
      SCOPED_TRACE(policy + ", " + name_of(way));
      PlayedMaster played(master());
      const auto batch = play(played, way, 0, kinds().size());
      const auto before = conflicts();
      const auto taken = take(batch, options(way, {"*.t=" + policy}));
      ASSERT_TRUE(taken.ok()) << one_line(taken.error());
      EXPECT_EQ(rows("t"), joined(left, " "));
      EXPECT_EQ(standby_value("SELECT count(*) FROM other"), "16");
      EXPECT_EQ(logged(), joined(lines, "\n"));
      EXPECT_EQ(conflicts() - before, kinds().size());
      EXPECT_EQ(progress(), lsn(played));
    }
  }
}

// The same error as without any rule, and nothing of the group is there.
TEST_F(ConflictMatrix, ErrorStopsAsEver) {
  for (std::size_t kind = 0; kind < kinds().size(); ++kind) {
    const Way way = kWays[kind % std::size(kWays)];
    SCOPED_TRACE(std::string(kinds()[kind].name) + ", " + name_of(way));
    PlayedMaster played(master());
    const auto batch = play(played, way, kind, kind + 1);
    const auto left = rows("t");
    const auto ever = take(batch, options(way, {}));
    const auto ruled = take(batch, options(way, {"*.*=keep", "*.t=error"}));
    ASSERT_FALSE(ever.ok());
    ASSERT_FALSE(ruled.ok());
    EXPECT_EQ(one_line(ruled.error()), one_line(ever.error()));
    EXPECT_EQ(rows("t"), left);
    EXPECT_EQ(rows("other"), "");
    EXPECT_EQ(logged(), "");
  }
}

}  // namespace
}  // namespace bitacora::apply
