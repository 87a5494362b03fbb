#include "apply/durability.h"

#include <gtest/gtest.h>

namespace bitacora::apply {
namespace {

MasterLsn master(std::uint64_t value) { return MasterLsn{value}; }
StandbyLsn standby(std::uint64_t value) { return StandbyLsn{value}; }

TEST(Durability, BeginsWhereTheProgressRowStands) {
  const Durability durability(master(7));
  EXPECT_EQ(durability.durable(), master(7));
  EXPECT_FALSE(durability.pending());
}

TEST(Durability, FollowsTheFlushInStepsOfCommits) {
  Durability durability(master(0));
  durability.on_commit(master(10), standby(1000));
  durability.on_commit(master(20), standby(2000));
  durability.on_commit(master(30), standby(2000));
  struct Case {
    std::uint64_t flushed;
    bool news;
    std::uint64_t durable;
    bool pending;
  };
  for (const Case& c :
       {Case{999, false, 0, true}, Case{1000, true, 10, true}, Case{1999, false, 10, true},
        Case{500, false, 10, true}, Case{2000, true, 30, false}, Case{9000, false, 30, false}}) {
    SCOPED_TRACE(c.flushed);
    EXPECT_EQ(durability.on_flush(standby(c.flushed)), c.news);
    EXPECT_EQ(durability.durable(), master(c.durable));
    EXPECT_EQ(durability.pending(), c.pending);
  }
}

// The position is asked again and again: a later WAL end must not move an old commit away.
TEST(Durability, ACommitKeepsTheFirstWalPositionNotedForIt) {
  Durability durability(master(0));
  durability.on_commit(master(10), standby(1000));
  durability.on_commit(master(10), standby(5000));
  EXPECT_TRUE(durability.on_flush(standby(1000)));
  EXPECT_FALSE(durability.pending());
  durability.on_commit(master(10), standby(9000));
  EXPECT_FALSE(durability.pending()) << "it is durable already";
}

TEST(DurabilityDeathTest, AppliedNeverGoesBackBehindDurable) {
  Durability durability(master(10));
  EXPECT_DEATH(durability.on_commit(master(9), standby(1)), "applied >= durable_");
}

}  // namespace
}  // namespace bitacora::apply
