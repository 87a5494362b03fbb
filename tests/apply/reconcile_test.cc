#include "apply/reconcile.h"

#include <gtest/gtest.h>

#include <functional>

namespace bitacora::apply {
namespace {

pb::Identity identity() {
  pb::Identity identity;
  identity.set_system_identifier(7012);
  identity.set_database("tienda");
  identity.set_slot("bitacora_main");
  identity.set_stream("main");
  return identity;
}

Progress at(std::uint64_t lsn, const pb::Identity& of = identity()) { return {of, MasterLsn{lsn}}; }

// One per field of the identity.
std::vector<pb::Identity> foreign_identities() {
  std::vector<pb::Identity> all(4, identity());
  all[0].set_system_identifier(7013);
  all[1].set_database("otra");
  all[2].set_slot("bitacora_otra");
  all[3].set_stream("otra");
  return all;
}

TEST(Reconcile, TheRowJudges) {
  struct Case {
    const char* name;
    std::optional<Progress> row;
    std::optional<Progress> checkpoint;
    bool first_start;
    std::uint64_t from;
  };
  for (const Case& c : {
           Case{"neither: the first start", {}, {}, true, 0},
           Case{"only the row: a new data directory", at(50), {}, false, 50},
           Case{"equal", at(50), at(50), false, 50},
           Case{"checkpoint older: crashed before it was written", at(50), at(40), false, 50},
           Case{"checkpoint newer: the standby lost its tail", at(50), at(60), false, 50},
           Case{"nothing applied yet", at(0), at(0), false, 0},
       }) {
    SCOPED_TRACE(c.name);
    const auto resume = reconcile(c.row, c.checkpoint);
    ASSERT_TRUE(resume.ok()) << one_line(resume.error());
    EXPECT_EQ(resume->first_start, c.first_start);
    EXPECT_EQ(resume->from, MasterLsn{c.from});
  }
}

void expect_state_error(const Error& error, const std::vector<std::string>& named) {
  EXPECT_EQ(error.code, ErrorCode::kState);
  EXPECT_FALSE(error.heals());
  EXPECT_FALSE(error.hint.empty());
  for (const auto& name : named) {
    EXPECT_NE(error.message.find(name), std::string::npos) << error.message;
  }
}

TEST(Reconcile, ALostRowStopsAndNamesThePosition) {
  const auto resume = reconcile({}, at(0x1'6B37'4DB0));
  ASSERT_FALSE(resume.ok());
  expect_state_error(resume.error(), {"1/6B374DB0"});
}

TEST(Reconcile, AForeignCheckpointStopsWhateverThePositions) {
  for (const auto& foreign : foreign_identities()) {
    for (const std::uint64_t lsn : {40u, 50u, 60u}) {
      SCOPED_TRACE(foreign.ShortDebugString() + " at " + std::to_string(lsn));
      const auto resume = reconcile(at(50), at(lsn, foreign));
      ASSERT_FALSE(resume.ok());
      expect_state_error(resume.error(), {"system 7012, database tienda, slot bitacora_main",
                                          foreign.database(), foreign.slot(), foreign.stream()});
    }
  }
}

TEST(CheckIdentity, EveryFieldCountsAndBothSidesAreNamed) {
  EXPECT_TRUE(check_identity(identity(), identity()).ok());
  for (const auto& foreign : foreign_identities()) {
    SCOPED_TRACE(foreign.ShortDebugString());
    const auto checked = check_identity(identity(), foreign);
    ASSERT_FALSE(checked.ok());
    expect_state_error(checked.error(), {"system 7012", "stream main", foreign.stream(),
                                         std::to_string(foreign.system_identifier())});
  }
}

TEST(CheckIdentity, OfTheSpoolToo) {
  EXPECT_TRUE(check_spool_identity(identity(), identity()).ok());
  for (const auto& foreign : foreign_identities()) {
    SCOPED_TRACE(foreign.ShortDebugString());
    const auto checked = check_spool_identity(identity(), foreign);
    ASSERT_FALSE(checked.ok());
    expect_state_error(checked.error(), {"spool", "system 7012", "stream main", foreign.stream()});
  }
}

}  // namespace
}  // namespace bitacora::apply
