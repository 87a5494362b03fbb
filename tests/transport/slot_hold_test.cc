// Who ceases to hold the slot, and that nobody does so by mistake.
#include "transport/slot_hold.h"

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <thread>

namespace bitacora::transport {
namespace {

using std::chrono::hours;
using std::chrono::nanoseconds;

constexpr nanoseconds kAnyAbsence{0};

ReceiverPositions all_at(std::uint64_t lsn) { return {{lsn}, {lsn}, {lsn}}; }

class SlotHoldTest : public testing::Test {
 protected:
  // Names of those whom it took.
  std::vector<std::string> drop(MasterLsn keep_from, nanoseconds absence = kAnyAbsence) {
    const auto dropped = hold_.drop_absent(keep_from, absence, note_);
    EXPECT_TRUE(dropped.ok());
    std::vector<std::string> names;
    if (dropped.ok()) {
      for (const auto& each : *dropped) names.push_back(each.receiver);
    }
    return names;
  }
  using Names = std::vector<std::string>;

  SubscriptionHub hub_{{.queue_bytes_max = 100}, [this] { ++changes_; }};
  SlotHold hold_{hub_};
  std::atomic<int> changes_ = 0;
  Names noted_;
  SlotHold::Note note_ = [this](const std::vector<ReceiverState>& whose) -> Result<void> {
    for (const auto& each : whose) {
      EXPECT_TRUE(hub_.is_registered(each.receiver)) << "it is let go before that is durable";
      noted_.push_back(each.receiver);
    }
    return {};
  };
};

TEST_F(SlotHoldTest, DropsWhoIsAwayAndTooFarBehind) {
  hub_.restore_receiver("behind", {100});
  hub_.restore_receiver("at the limit", {200});
  hub_.restore_receiver("connected", {150});
  const auto connected = *hold_.join_at("connected", "i", {150}, {100});
  EXPECT_EQ(hold_.report()->flushed, MasterLsn{100});
  changes_ = 0;
  EXPECT_EQ(drop({200}), Names{"behind"});
  EXPECT_EQ(noted_, Names{"behind"});
  EXPECT_EQ(changes_, 1) << "the slot may move on now";
  EXPECT_FALSE(hub_.is_registered("behind"));
  EXPECT_EQ(hold_.report()->flushed, MasterLsn{150});
  hub_.leave(connected);
  EXPECT_EQ(drop({200}), Names{"connected"});
  EXPECT_EQ(hold_.report()->flushed, MasterLsn{200});
  EXPECT_EQ(drop({200}), Names{});
  EXPECT_EQ(noted_, (Names{"behind", "connected"}));
}

TEST_F(SlotHoldTest, GivesWhoIsAwayForAMomentTime) {
  hub_.restore_receiver("a", {100});
  EXPECT_EQ(drop({200}, hours(1)), Names{});
  hub_.leave(*hold_.join_at("a", "i", {100}, {100}));
  EXPECT_EQ(drop({200}, hours(1)), Names{});
  hub_.disconnect(**hold_.join_at("a", "i", {100}, {100}));
  EXPECT_EQ(drop({200}, hours(1)), Names{});
  EXPECT_EQ(drop({200}), Names{"a"});
}

// However long it was away before. In each way in which a connection ends.
TEST_F(SlotHoldTest, CountsAbsenceFromTheLastConnection) {
  hub_.restore_receiver("a", {100});
  const auto join = [&] { return *hold_.join_at("a", "i", {100}, {100}); };
  const std::vector<std::function<void()>> endings = {[&] { hub_.leave(join()); },
                                                      [&] { hub_.disconnect(*join()); },
                                                      [&] {
                                                        join();
                                                        hub_.disconnect_all();
                                                      }};
  for (const auto& end : endings) {
    std::this_thread::sleep_for(std::chrono::milliseconds(60));
    end();
    EXPECT_EQ(drop({200}, std::chrono::milliseconds(50)), Names{});
  }
}

TEST_F(SlotHoldTest, DropsNobodyWhoseDroppingCannotBeNoted) {
  hub_.restore_receiver("a", {100});
  hub_.restore_receiver("b", {300});
  const SlotHold::Note full = [](const auto&) {
    return Result<void>(Error{ErrorCode::kInternal, "the disk is full"});
  };
  EXPECT_FALSE(hold_.drop_absent({200}, kAnyAbsence, full).ok());
  EXPECT_FALSE(hold_.forget("a", full).ok());
  EXPECT_EQ(hold_.report()->flushed, MasterLsn{100});
}

TEST_F(SlotHoldTest, LetsInAgainWhoWasDroppedUntilTheSlotHasMovedOn) {
  hub_.restore_receiver("a", {100});
  hub_.restore_receiver("b", {300});
  EXPECT_EQ(drop({200}), Names{"a"});
  EXPECT_TRUE(hold_.join_at("a", "i", {100}, {100}).ok()) << "nobody has told the slot yet";
  EXPECT_EQ(hold_.report()->flushed, MasterLsn{100});
  hub_.disconnect_all();
  EXPECT_EQ(drop({200}), Names{"a"});
  EXPECT_EQ(hold_.report()->flushed, MasterLsn{300});
  const auto late = hold_.join_at("a", "i", {100}, {100});
  ASSERT_FALSE(late.ok());
  EXPECT_EQ(late.error().code, ErrorCode::kState);
  EXPECT_TRUE(hold_.join_at("a", "i", {300}, {100}).ok());
}

TEST_F(SlotHoldTest, ForgetsWhoIsNotConnected) {
  const auto connected = *hold_.join_new("a", "i", {100});
  hub_.acknowledge(*connected, all_at(150));
  hub_.restore_receiver("b", {300});
  const auto refused = hold_.forget("a", note_);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kState);
  EXPECT_NE(refused.error().message.find("a is connected"), std::string::npos);
  EXPECT_EQ(noted_, Names{});
  EXPECT_EQ(hold_.report()->flushed, MasterLsn{150});
  const auto unknown = hold_.forget("c", note_);
  ASSERT_FALSE(unknown.ok());
  EXPECT_NE(unknown.error().hint.find("a, b"), std::string::npos) << unknown.error().hint;
  hub_.leave(connected);
  EXPECT_TRUE(hold_.forget("a", note_).ok());
  EXPECT_EQ(noted_, Names{"a"});
  EXPECT_EQ(hold_.report()->flushed, MasterLsn{300});
}

TEST_F(SlotHoldTest, IsReleasedWhenNobodyIsRegistered) {
  hub_.restore_receiver("a", {100});
  EXPECT_FALSE(hold_.release({500}));
  EXPECT_EQ(hold_.report()->flushed, MasterLsn{100});
  EXPECT_EQ(drop({200}), Names{"a"});
  EXPECT_TRUE(hold_.release({500}));
  EXPECT_FALSE(hold_.join_at("a", "i", {100}, {100}).ok());
  EXPECT_EQ((*hold_.join_new("b", "i", {100}))->start_lsn(), MasterLsn{500});
}

// Whoever is let in has its position kept, however the others come and go at the same moment.
TEST_F(SlotHoldTest, NeverDropsWhoConnectsAtThatMoment) {
  std::atomic<int> dropped = 0;
  std::jthread dropping([&](const std::stop_token& stop) {
    const SlotHold::Note count = [&](const auto& whose) -> Result<void> {
      for (int look = 0; look < 100; ++look) {
        for (const auto& each : hub_.receivers()) EXPECT_FALSE(each.connected);
      }
      dropped += static_cast<int>(whose.size());
      return {};
    };
    while (!stop.stop_requested())
      EXPECT_TRUE(hold_.drop_absent({1'000'000}, kAnyAbsence, count).ok());
  });
  std::jthread reporting([&](const std::stop_token& stop) {
    while (!stop.stop_requested()) hold_.report();
  });
  for (std::uint64_t i = 0; i < 1000; ++i) {
    const auto joined = hold_.join_at("a", "i", {1000 + i}, {1000});
    ASSERT_TRUE(joined.ok());
    for (int look = 0; look < 3; ++look) {
      const auto told = hold_.report();
      ASSERT_TRUE(told.has_value()) << "it is connected, and holds nothing";
      ASSERT_LE(told->flushed, (*joined)->start_lsn());
    }
    hub_.leave(*joined);
    while (i % 2 == 0 && hub_.is_registered("a")) std::this_thread::yield();
  }
  EXPECT_GE(dropped, 500);
}

}  // namespace
}  // namespace bitacora::transport
