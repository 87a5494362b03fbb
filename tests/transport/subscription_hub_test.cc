#include "transport/subscription_hub.h"

#include <gtest/gtest.h>

#include <future>

namespace bitacora::transport {
namespace {

using Clock = SubscriptionHub::Clock;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::size_t kQueueBytes = 100;

proto::SharedBatch batch(const std::string& bytes, std::uint64_t end_lsn = 0) {
  return std::make_shared<const proto::EncodedBatch>(proto::EncodedBatch{bytes, {end_lsn}, false});
}

ReceiverPositions all_at(std::uint64_t lsn) { return {{lsn}, {lsn}, {lsn}}; }

class SubscriptionHubTest : public testing::Test {
 protected:
  std::shared_ptr<Subscription> join(const std::string& name, std::uint64_t start = 0,
                                     const std::string& instance = "i") {
    auto joined = hub_.join(name, instance, {start});
    EXPECT_TRUE(joined.ok());
    return joined.ok() ? *joined : nullptr;
  }

  bool offer(const proto::SharedBatch& batch) { return hub_.offer(batch, Clock::now()); }

  // The bytes of everything queued, in order.
  static std::vector<std::string> drained(const std::shared_ptr<Subscription>& subscription) {
    std::vector<std::string> taken;
    while (const auto batch = subscription->queue().pop(Clock::now())) {
      taken.push_back((*batch)->bytes);
    }
    return taken;
  }

  using Strings = std::vector<std::string>;

  int changes_ = 0;
  SubscriptionHub hub_{{.queue_bytes_max = kQueueBytes}, [this] { ++changes_; }};
};

TEST_F(SubscriptionHubTest, EveryActiveSubscriptionGetsEveryBatchInOrder) {
  const auto a = join("a");
  const auto b = join("b");
  hub_.activate();
  EXPECT_TRUE(offer(batch("one")));
  EXPECT_TRUE(offer(batch("two")));
  EXPECT_EQ(drained(a), (Strings{"one", "two"}));
  EXPECT_EQ(drained(b), (Strings{"one", "two"}));
}

TEST_F(SubscriptionHubTest, WhoJoinsLaterBehindTheOthersWaitsForTheNextRun) {
  const auto a = join("a", 100);
  hub_.activate();
  EXPECT_FALSE(hub_.wants_restart());
  const auto b = join("b", 99);
  EXPECT_TRUE(hub_.wants_restart());
  EXPECT_TRUE(offer(batch("one", 110)));
  EXPECT_EQ(drained(b), Strings{});
  EXPECT_EQ(hub_.activate(), MasterLsn{99});
  EXPECT_FALSE(hub_.wants_restart());
  EXPECT_TRUE(offer(batch("one", 110)));
  EXPECT_TRUE(offer(batch("two", 120)));
  EXPECT_EQ(drained(a), (Strings{"one", "two"})) << "what it has it does not get again";
  EXPECT_EQ(drained(b), (Strings{"one", "two"}));
}

TEST_F(SubscriptionHubTest, ReadingBeginsWhereTheFurthestBehindIs) {
  EXPECT_FALSE(hub_.activate().has_value());
  EXPECT_TRUE(hub_.wants_restart()) << "nobody is there to read for";
  const auto a = join("a", 300);
  EXPECT_EQ(hub_.activate(), MasterLsn{300});
  const auto b = join("b", 200);
  EXPECT_EQ(hub_.activate(), MasterLsn{200});
  EXPECT_TRUE(offer(batch("x", 400)));
  EXPECT_EQ(hub_.activate(), MasterLsn{400});
  EXPECT_TRUE(offer(batch("an open transaction", 0)));
  EXPECT_EQ(hub_.activate(), MasterLsn{400});
  hub_.leave(b);
  hub_.leave(a);
  EXPECT_FALSE(hub_.activate().has_value());
}

TEST_F(SubscriptionHubTest, AFullQueueRefusesUntilThereIsRoomAndNobodyGetsItTwice) {
  const auto quick = join("a quick one");
  const auto slow = join("slow");
  hub_.activate();
  const auto large = batch(std::string(kQueueBytes, 'x'));
  const auto next = batch("next");
  EXPECT_TRUE(offer(large));
  EXPECT_EQ(drained(quick).size(), 1u);
  EXPECT_FALSE(offer(next));
  EXPECT_FALSE(offer(next));
  EXPECT_EQ(drained(slow).size(), 1u);
  EXPECT_TRUE(offer(next));
  EXPECT_EQ(drained(quick), Strings{"next"});
  EXPECT_EQ(drained(slow), Strings{"next"});
}

TEST_F(SubscriptionHubTest, OfferWaitsForRoom) {
  const auto slow = join("slow");
  hub_.activate();
  ASSERT_TRUE(offer(batch(std::string(kQueueBytes, 'x'))));
  auto offered = std::async(std::launch::async,
                            [&] { return hub_.offer(batch("next"), Clock::now() + seconds(20)); });
  EXPECT_EQ(offered.wait_for(milliseconds(50)), std::future_status::timeout);
  ASSERT_TRUE(slow->queue().pop(Clock::now()).has_value());
  EXPECT_TRUE(offered.get());
}

TEST_F(SubscriptionHubTest, ForgetsNobodyWhoIsConnected) {
  const auto a = join("a", 100);
  join("b", 200);
  hub_.forget("a");
  EXPECT_TRUE(hub_.is_registered("a"));
  hub_.leave(a);
  changes_ = 0;
  hub_.forget("a");
  EXPECT_EQ(changes_, 1);
  EXPECT_EQ(hub_.slowest()->flushed, MasterLsn{200});
  hub_.forget("a");
  EXPECT_EQ(changes_, 1);
}

// The reader dropped the batch with its connection; another one may lie at the same address.
TEST_F(SubscriptionHubTest, ABatchOfANewRunIsNotTakenForTheOldOnesRepetition) {
  const auto a = join("a");
  hub_.activate();
  ASSERT_TRUE(offer(batch(std::string(kQueueBytes, 'x'))));
  const auto next = batch("next");
  EXPECT_FALSE(offer(next));
  hub_.activate();
  drained(a);
  EXPECT_TRUE(offer(next));
  EXPECT_EQ(drained(a), Strings{"next"});
}

TEST_F(SubscriptionHubTest, WhoLeavesHoldsNobodyUp) {
  const auto a = join("a");
  const auto b = join("b");
  hub_.activate();
  ASSERT_TRUE(offer(batch(std::string(kQueueBytes, 'x'))));
  const auto next = batch("next");
  drained(b);
  EXPECT_FALSE(offer(next));
  hub_.leave(a);
  EXPECT_TRUE(offer(next));
  EXPECT_EQ(drained(b), Strings{"next"});
  EXPECT_FALSE(hub_.wants_restart());
  hub_.leave(b);
  EXPECT_TRUE(hub_.wants_restart());
}

TEST_F(SubscriptionHubTest, OneInstancePerName) {
  const auto first = join("a", 0, "i");
  const auto stranger = hub_.join("a", "another", {});
  ASSERT_FALSE(stranger.ok());
  EXPECT_EQ(stranger.error().code, ErrorCode::kConfiguration);
  EXPECT_FALSE(stranger.error().heals());
  EXPECT_FALSE(first->queue().closed());

  const auto again = join("a", 0, "i");
  EXPECT_TRUE(first->queue().closed()) << "the connection it replaces ends";
  hub_.leave(first);
  EXPECT_TRUE(hub_.receivers().at(0).connected) << "the old one's end is not the new one's";
  hub_.acknowledge(*first, all_at(10));
  EXPECT_EQ(hub_.slowest()->flushed, MasterLsn{0}) << "nor is its acknowledgement";
  hub_.leave(again);
  EXPECT_TRUE(hub_.join("a", "another", {}).ok()) << "a name that nobody uses is free";
}

TEST_F(SubscriptionHubTest, TheSlowestOfAllHoldsTheSlot) {
  EXPECT_FALSE(hub_.slowest().has_value());
  const auto a = join("a", 100);
  EXPECT_EQ(hub_.slowest(), all_at(100));
  hub_.acknowledge(*a, {{500}, {400}, {300}});
  EXPECT_EQ(hub_.slowest(), (ReceiverPositions{{500}, {400}, {300}}));
  const auto b = join("b", 350);
  EXPECT_EQ(hub_.slowest(), (ReceiverPositions{{350}, {350}, {300}}));
  hub_.leave(b);
  EXPECT_EQ(hub_.slowest()->flushed, MasterLsn{350}) << "also when it is away";
  hub_.restore_receiver("absent", {50});
  EXPECT_EQ(hub_.slowest(), all_at(50));
  EXPECT_TRUE(hub_.is_registered("absent"));
  EXPECT_FALSE(hub_.is_registered("unheard of"));
}

TEST_F(SubscriptionHubTest, OnlyANewReceiverCanWithdraw) {
  hub_.restore_receiver("old", {50});
  const auto old = join("old", 50);
  EXPECT_FALSE(hub_.withdraw(*old)) << "it may hold what was sent before";
  const auto begun = join("begun", 70);
  hub_.acknowledge(*begun, all_at(70));
  EXPECT_FALSE(hub_.withdraw(*begun));

  const auto fresh = join("new", 10);
  EXPECT_EQ(hub_.slowest(), all_at(10));
  EXPECT_TRUE(hub_.withdraw(*fresh));
  EXPECT_FALSE(hub_.is_registered("new"));
  EXPECT_EQ(hub_.slowest(), all_at(50)) << "the slot waits no longer";
  EXPECT_FALSE(hub_.withdraw(*fresh));
  hub_.acknowledge(*fresh, all_at(90));
  hub_.leave(fresh);
  EXPECT_EQ(hub_.receivers().size(), 2u);
}

// Its next connection was promised that the slot waits.
TEST_F(SubscriptionHubTest, WhoCameAgainIsNotForgotten) {
  const auto first = join("new", 10);
  const auto again = join("new", 10);
  EXPECT_FALSE(hub_.withdraw(*first));
  EXPECT_TRUE(hub_.is_registered("new"));
  EXPECT_TRUE(hub_.withdraw(*again));
}

TEST_F(SubscriptionHubTest, PositionsNeverGoBack) {
  const auto a = join("a", 100);
  hub_.acknowledge(*a, all_at(300));
  hub_.acknowledge(*a, all_at(200));
  EXPECT_EQ(hub_.slowest(), all_at(300));
  hub_.restore_receiver("a", {50});
  EXPECT_EQ(hub_.slowest(), all_at(300)) << "known already";
  join("a", 400);
  EXPECT_EQ(hub_.slowest(), all_at(300)) << "until it acknowledges";
  join("a", 250);
  EXPECT_EQ(hub_.slowest(), all_at(250)) << "but it may come with less";
}

TEST_F(SubscriptionHubTest, TellsWhatChanged) {
  const auto a = join("a", 100);
  EXPECT_EQ(changes_, 1);
  hub_.acknowledge(*a, all_at(200));
  EXPECT_EQ(changes_, 2);
  hub_.acknowledge(*a, all_at(200));
  EXPECT_EQ(changes_, 2) << "nothing moved";
  hub_.leave(a);
  EXPECT_EQ(changes_, 3);
}

TEST_F(SubscriptionHubTest, DisconnectAllClosesEveryQueue) {
  const auto a = join("a");
  const auto b = join("b");
  hub_.activate();
  hub_.disconnect_all();
  EXPECT_TRUE(a->queue().closed());
  EXPECT_TRUE(b->queue().closed());
  EXPECT_TRUE(hub_.wants_restart());
  EXPECT_TRUE(offer(batch("to nobody")));
  const auto back = join("a", 0, "another instance");
  EXPECT_EQ(hub_.activate(), MasterLsn{0});
  EXPECT_TRUE(offer(batch("one")));
  EXPECT_EQ(drained(back), Strings{"one"});
}

TEST_F(SubscriptionHubTest, WaitsForReceivers) {
  const auto begun = Clock::now();
  hub_.wait_for_receivers(begun + milliseconds(20));
  EXPECT_GE(Clock::now(), begun + milliseconds(20));
  auto waiting =
      std::async(std::launch::async, [&] { hub_.wait_for_receivers(Clock::now() + seconds(60)); });
  const auto a = join("a");
  EXPECT_EQ(waiting.wait_for(seconds(10)), std::future_status::ready);
  hub_.wait_for_receivers(Clock::now() + seconds(60));  // somebody is there: at once
  EXPECT_LT(Clock::now(), begun + seconds(30));
}

TEST_F(SubscriptionHubTest, ShowsWhoIsThere) {
  const auto a = join("a", 100);
  hub_.restore_receiver("b", {70});
  hub_.activate();
  ASSERT_TRUE(offer(batch("12345")));
  const auto states = hub_.receivers();
  ASSERT_EQ(states.size(), 2u);
  EXPECT_EQ(states[0].receiver, "a");
  EXPECT_TRUE(states[0].connected);
  EXPECT_EQ(states[0].queued_bytes, 5u);
  EXPECT_EQ(states[0].positions, all_at(100));
  EXPECT_EQ(states[1].receiver, "b");
  EXPECT_FALSE(states[1].connected);
}

}  // namespace
}  // namespace bitacora::transport
