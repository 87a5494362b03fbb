#include "wal/pace.h"

#include <gtest/gtest.h>

namespace bitacora::wal {
namespace {

using std::chrono::milliseconds;

constexpr std::int64_t kCommitted = 1'718'100'000'000'000;
constexpr std::int64_t kAtOnce = kCommitted + 400;
constexpr std::int64_t kLate = kCommitted + 3'000'000;

class PaceTest : public testing::Test {
 protected:
  void begin(std::int64_t sent_usec) {
    const BeginMessage begin{{0x100}, kCommitted, 700};
    pace_.on_begin(begin.commit_time_usec, sent_usec);
    EXPECT_TRUE(builder_.append(PgOutputMessage(begin)).ok());
  }
  void commit() {
    end_.value += 0x100;
    EXPECT_TRUE(builder_.append(PgOutputMessage(CommitMessage{{0x100}, end_, kCommitted})).ok());
  }
  void transaction(std::int64_t sent_usec) {
    begin(sent_usec);
    commit();
  }
  bool due_after(int ms) { return pace_.due(builder_, start_ + milliseconds(ms)); }

  Pace pace_{{.company_bytes = 200}};
  BatchBuilder builder_;
  MasterLsn end_{0x100};
  Pace::Clock::time_point start_ = Pace::Clock::now();
};

TEST_F(PaceTest, ATransactionThatWasJustCommittedGoesAtOnce) {
  EXPECT_FALSE(due_after(0)) << "there is nothing";
  begin(kAtOnce);
  EXPECT_FALSE(due_after(50)) << "half a transaction";
  commit();
  EXPECT_TRUE(due_after(50));
  EXPECT_FALSE(pace_.late());
}

TEST_F(PaceTest, ALateOneWaitsALittleForOthers) {
  transaction(kLate);
  EXPECT_TRUE(pace_.late());
  EXPECT_FALSE(due_after(0));
  EXPECT_TRUE(pace_.holding());
  EXPECT_FALSE(due_after(4));
  EXPECT_TRUE(due_after(5));
  EXPECT_FALSE(pace_.holding());
}

TEST_F(PaceTest, OrUntilThereAreEnough) {
  int transactions = 0;
  do {
    transaction(kLate);
    ++transactions;
  } while (!due_after(1) && transactions < 1000);
  EXPECT_GT(transactions, 1);
  EXPECT_GE(builder_.bytes(), 200u);
}

TEST_F(PaceTest, OneThatIsNotLateTakesTheLateOnesAlong) {
  transaction(kLate);
  EXPECT_FALSE(due_after(0));
  transaction(kAtOnce);
  EXPECT_TRUE(due_after(0));
}

TEST_F(PaceTest, APositionWaitsForChangesToTravelWith) {
  builder_.append_idle_position({0x50});
  EXPECT_FALSE(due_after(0));
  EXPECT_FALSE(due_after(19));
  EXPECT_TRUE(due_after(20));
}

TEST_F(PaceTest, ATransactionDoesNotWaitForAPosition) {
  builder_.append_idle_position({0x50});
  EXPECT_FALSE(due_after(0));
  transaction(kAtOnce);
  EXPECT_TRUE(due_after(1));
}

}  // namespace
}  // namespace bitacora::wal
