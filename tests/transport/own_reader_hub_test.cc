// Who reads alone, and how it comes back to the others.
#include <gtest/gtest.h>

#include <future>

#include "transport/subscription_hub.h"

namespace bitacora::transport {
namespace {

using Clock = SubscriptionHub::Clock;
using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;
using Strings = std::vector<std::string>;

constexpr std::size_t kQueueBytes = 100;

proto::SharedBatch batch(const std::string& bytes, std::uint64_t end_lsn, bool open = false) {
  return std::make_shared<const proto::EncodedBatch>(proto::EncodedBatch{bytes, {end_lsn}, open});
}

proto::SharedBatch stream(std::uint32_t xid, proto::StreamEvent event, std::uint64_t end_lsn = 0) {
  auto made = std::make_shared<proto::EncodedBatch>(*batch("s", end_lsn));
  made->stream_xid = xid;
  made->event = event;
  return made;
}

std::string fill() { return std::string(kQueueBytes, 'x'); }

class OwnReaderHubTest : public testing::Test {
 protected:
  static HubOptions options() {
    HubOptions options{.queue_bytes_max = kQueueBytes};
    options.own_readers = true;
    options.patience = milliseconds(0);
    options.near_bytes = 1000;
    return options;
  }

  std::shared_ptr<Subscription> join(const std::string& name, std::uint64_t start) {
    auto joined = hub_.join(name, "i", {start});
    EXPECT_TRUE(joined.ok());
    return *joined;
  }
  bool offer(const proto::SharedBatch& batch) { return hub_.offer(batch, Clock::now()); }
  Pushed put(const std::shared_ptr<Subscription>& subscription, const proto::SharedBatch& batch) {
    return hub_.put(*subscription, batch, Clock::now());
  }
  std::shared_ptr<Subscription> claim() { return hub_.claim(Clock::now()); }
  ReadBy read_by(const std::string& name) const {
    for (const auto& state : hub_.receivers())
      if (state.receiver == name) return state.read_by;
    return ReadBy::kNobody;
  }
  static Strings drained(const std::shared_ptr<Subscription>& subscription) {
    Strings taken;
    while (const auto batch = subscription->queue().pop(Clock::now()))
      taken.push_back((*batch)->bytes);
    return taken;
  }
  // One that reads alone beside one that is served at 5000.
  std::shared_ptr<Subscription> alone_at(std::uint64_t position) {
    quick_ = join("quick", 5000);
    EXPECT_EQ(hub_.activate(), MasterLsn{5000});
    const auto alone = join("alone", position);
    EXPECT_FALSE(hub_.wants_restart());
    EXPECT_EQ(claim(), alone);
    return alone;
  }

  SubscriptionHub hub_{options(), [] {}};
  std::shared_ptr<Subscription> quick_;
};

TEST_F(OwnReaderHubTest, WhoHoldsOthersUpReadsAlone) {
  const auto quick = join("quick", 100);
  const auto slow = join("slow", 100);
  hub_.activate();
  ASSERT_TRUE(offer(batch(fill(), 110)));
  drained(quick);
  EXPECT_TRUE(offer(batch("next", 120)));
  EXPECT_EQ(drained(quick), Strings{"next"});
  EXPECT_EQ(read_by("quick"), ReadBy::kCommon);
  EXPECT_EQ(read_by("slow"), ReadBy::kOwn);
  EXPECT_EQ(claim(), slow);
  EXPECT_EQ(claim(), nullptr) << "once";
  EXPECT_EQ(hub_.position(*slow), MasterLsn{110});
  EXPECT_FALSE(hub_.wants_restart());
}

TEST_F(OwnReaderHubTest, WhoHoldsNobodyUpIsWaitedFor) {
  const auto only = join("only", 100);
  const auto as_slow = join("as slow", 100);
  hub_.activate();
  ASSERT_TRUE(offer(batch(fill(), 110)));
  const auto next = batch("next", 120);
  EXPECT_FALSE(offer(next));
  EXPECT_FALSE(offer(next));
  EXPECT_EQ(read_by("only"), ReadBy::kCommon);
  hub_.leave(as_slow);
  EXPECT_FALSE(offer(next));
  EXPECT_EQ(read_by("only"), ReadBy::kCommon);
  drained(only);
  EXPECT_TRUE(offer(next));
}

TEST_F(OwnReaderHubTest, WhoJoinsWhileAllWaitForASlowOneIsServed) {
  const auto slow = join("slow", 100);
  hub_.activate();
  ASSERT_TRUE(offer(batch(fill(), 110)));
  const auto next = batch("next", 120);
  EXPECT_FALSE(offer(next));
  const auto quick = join("quick", 110);
  EXPECT_TRUE(offer(next));
  EXPECT_EQ(drained(quick), Strings{"next"});
  EXPECT_EQ(read_by("slow"), ReadBy::kOwn);
}

// What it holds of the transaction cannot be gone on with by another reader.
TEST_F(OwnReaderHubTest, InsideATransactionTheSlowOneIsDisconnected) {
  const auto quick = join("quick", 100);
  const auto slow = join("slow", 100);
  hub_.activate();
  ASSERT_TRUE(offer(batch(fill(), 0, true)));
  drained(quick);
  EXPECT_TRUE(offer(batch("rest", 120)));
  EXPECT_TRUE(slow->queue().closed());
  EXPECT_EQ(drained(quick), Strings{"rest"});
  EXPECT_EQ(claim(), nullptr);
  const auto back = join("slow", 100);
  EXPECT_FALSE(hub_.wants_restart());
  EXPECT_EQ(claim(), back);
}

TEST_F(OwnReaderHubTest, PatienceIsForAMoment) {
  auto patient = options();
  patient.patience = hours(1);
  SubscriptionHub hub(patient, [] {});
  const auto quick = *hub.join("quick", "i", {100});
  const auto slow = *hub.join("slow", "i", {100});
  hub.activate();
  ASSERT_TRUE(hub.offer(batch(fill(), 110), Clock::now()));
  drained(quick);
  const auto next = batch("next", 120);
  EXPECT_FALSE(hub.offer(next, Clock::now() + milliseconds(30)));
  EXPECT_EQ(hub.claim(Clock::now()), nullptr);
  EXPECT_EQ(drained(quick), Strings{"next"}) << "others have it meanwhile";
  drained(slow);
  EXPECT_TRUE(hub.offer(next, Clock::now()));
  EXPECT_EQ(drained(slow), Strings{"next"});
}

TEST_F(OwnReaderHubTest, ComesBackWithoutAGapAndWithoutGettingAnythingTwice) {
  const auto alone = alone_at(100);
  EXPECT_EQ(hub_.come_back(*alone), OwnRead::kGoesOn) << "too far away";
  EXPECT_EQ(put(alone, batch("one", 4500)), Pushed::kYes);
  EXPECT_EQ(hub_.come_back(*alone), OwnRead::kGoesOn) << "near: from here on it is held";
  EXPECT_TRUE(offer(batch("two", 5100)));
  EXPECT_TRUE(offer(batch("three", 5200)));
  EXPECT_EQ(hub_.come_back(*alone), OwnRead::kGoesOn) << "the rest is missing";
  EXPECT_EQ(put(alone, batch("the rest, and two", 5100)), Pushed::kYes);
  EXPECT_EQ(hub_.come_back(*alone), OwnRead::kOver);
  EXPECT_EQ(read_by("alone"), ReadBy::kCommon);
  EXPECT_TRUE(offer(batch("four", 5300)));
  EXPECT_EQ(drained(alone), (Strings{"one", "the rest, and two", "three", "four"}));
  EXPECT_EQ(drained(quick_), (Strings{"two", "three", "four"}));
}

TEST_F(OwnReaderHubTest, MayComeBackAheadOfTheOthers) {
  const auto alone = alone_at(4900);
  EXPECT_EQ(put(alone, batch("one to three", 5200)), Pushed::kYes);
  EXPECT_EQ(hub_.come_back(*alone), OwnRead::kOver);
  EXPECT_TRUE(offer(batch("two", 5100)));
  EXPECT_TRUE(offer(batch("three and four", 5300))) << "sent whole";
  EXPECT_EQ(drained(alone), (Strings{"one to three", "three and four"}));
}

TEST_F(OwnReaderHubTest, ComesBackIntoATransactionThatWasHeldFromItsBeginning) {
  const auto alone = alone_at(4900);
  EXPECT_EQ(hub_.come_back(*alone), OwnRead::kGoesOn);
  EXPECT_TRUE(offer(batch("begin", 0, true)));
  EXPECT_EQ(put(alone, batch("up to 5000", 5000)), Pushed::kYes);
  EXPECT_EQ(hub_.come_back(*alone), OwnRead::kOver);
  EXPECT_TRUE(offer(batch("end", 5100)));
  EXPECT_EQ(drained(alone), (Strings{"up to 5000", "begin", "end"}));
}

TEST_F(OwnReaderHubTest, DoesNotComeBackInsideATransaction) {
  const auto alone = alone_at(4900);
  EXPECT_TRUE(offer(batch("begin", 0, true)));
  EXPECT_EQ(put(alone, batch("up to 5000", 5000)), Pushed::kYes);
  EXPECT_EQ(hub_.come_back(*alone), OwnRead::kGoesOn) << "the others' is open";
  EXPECT_TRUE(offer(batch("end", 5100)));
  EXPECT_EQ(put(alone, batch("begin", 0, true)), Pushed::kYes);
  EXPECT_EQ(hub_.come_back(*alone), OwnRead::kGoesOn) << "its own is open";
  EXPECT_EQ(put(alone, batch("end", 5100)), Pushed::kYes);
  EXPECT_EQ(hub_.come_back(*alone), OwnRead::kOver);
}

// Nothing may pile up for who cannot take it.
TEST_F(OwnReaderHubTest, DoesNotComeBackWithAFullQueue) {
  const auto alone = alone_at(4900);
  EXPECT_EQ(put(alone, batch(fill(), 5000)), Pushed::kYes);
  EXPECT_EQ(hub_.come_back(*alone), OwnRead::kGoesOn);
  drained(alone);
  EXPECT_EQ(hub_.come_back(*alone), OwnRead::kOver);
}

TEST_F(OwnReaderHubTest, WhatIsTooMuchIsNotHeld) {
  const auto alone = alone_at(4900);
  EXPECT_EQ(hub_.come_back(*alone), OwnRead::kGoesOn);
  EXPECT_TRUE(offer(batch(std::string(60, 'x'), 5100)));
  EXPECT_EQ(put(alone, batch("up to 5000", 5000)), Pushed::kYes);
  EXPECT_EQ(hub_.come_back(*alone), OwnRead::kGoesOn);
  EXPECT_EQ(put(alone, batch("up to 5100", 5100)), Pushed::kYes);
  EXPECT_EQ(hub_.come_back(*alone), OwnRead::kOver);
}

pb::Part relation(std::uint32_t oid, const std::string& name) {
  pb::Part part;
  part.mutable_relation()->set_oid(oid);
  part.mutable_relation()->set_name(name);
  return part;
}

proto::SharedBatch describing(const pb::Part& part, std::uint64_t end_lsn) {
  pb::ChangeBatch changes;
  *changes.add_parts() = part;
  auto made = std::make_shared<proto::EncodedBatch>();
  changes.SerializeToString(&made->bytes);
  made->end_lsn = {end_lsn};
  made->described = std::make_shared<pb::ChangeBatch>(changes);
  return made;
}

// pgoutput describes a relation once; the common reader did when this one was not there.
TEST_F(OwnReaderHubTest, GetsTheDescriptionsThatItMissed) {
  quick_ = join("quick", 5000);
  hub_.activate();
  ASSERT_TRUE(offer(describing(relation(1, "old"), 5010)));
  ASSERT_TRUE(offer(describing(relation(1, "new"), 5020)));
  const auto later = join("later", 5040);
  ASSERT_TRUE(offer(describing(relation(2, "left out"), 5040)));
  pb::ChangeBatch changes;
  changes.add_parts()->mutable_begin()->set_xid(7);
  std::string bytes;
  changes.SerializeToString(&bytes);
  ASSERT_TRUE(offer(batch(bytes, 5050)));
  const auto got = later->queue().pop(Clock::now());
  ASSERT_TRUE(got.has_value());
  const auto parsed = proto::parse_batch((*got)->bytes);
  ASSERT_EQ(parsed->parts_size(), 3);
  EXPECT_EQ(parsed->parts(0).relation().name(), "new");
  EXPECT_EQ(parsed->parts(1).relation().name(), "left out");
  EXPECT_EQ(parsed->parts(2).begin().xid(), 7u);
  ASSERT_TRUE(offer(batch(bytes, 5060)));
  EXPECT_EQ(drained(later), Strings{bytes}) << "once";
}

TEST_F(OwnReaderHubTest, ItsReaderEndsWithItsConnection) {
  const auto alone = alone_at(100);
  const auto again = *hub_.join("alone", "i", {200});
  EXPECT_EQ(put(alone, batch("x", 300)), Pushed::kClosed);
  EXPECT_EQ(hub_.come_back(*alone), OwnRead::kGone);
  EXPECT_FALSE(hub_.wants_restart());
  EXPECT_EQ(claim(), again);
  EXPECT_EQ(hub_.position(*again), MasterLsn{200});
  hub_.leave(again);
  EXPECT_EQ(hub_.come_back(*again), OwnRead::kGone);
}

// The common reader confirms the slot; one that is read for alone is the common one then.
TEST_F(OwnReaderHubTest, WhoIsLeftIsReadForByTheSharedReader) {
  const auto alone = alone_at(100);
  hub_.leave(quick_);
  EXPECT_TRUE(hub_.wants_restart());
  EXPECT_EQ(hub_.activate(), std::nullopt);
  auto waiting =
      std::async(std::launch::async, [&] { hub_.wait_for_receivers(Clock::now() + seconds(60)); });
  EXPECT_EQ(put(alone, batch("one", 200)), Pushed::kYes);
  EXPECT_EQ(hub_.come_back(*alone), OwnRead::kOver);
  EXPECT_EQ(waiting.wait_for(seconds(10)), std::future_status::ready);
  EXPECT_EQ(hub_.activate(), MasterLsn{200});
}

TEST_F(OwnReaderHubTest, TheSharedReadIsWithTheFurthest) {
  const auto behind = join("behind", 100);
  EXPECT_EQ(hub_.activate(), MasterLsn{100});
  const auto ahead = join("ahead", 5000);
  EXPECT_TRUE(hub_.wants_restart());
  EXPECT_EQ(hub_.activate(), MasterLsn{5000});
  EXPECT_EQ(claim(), behind);
  EXPECT_EQ(read_by("ahead"), ReadBy::kCommon);
}

TEST_F(OwnReaderHubTest, WhenThereIsNoCopyEverythingIsReadInCommon) {
  const auto alone = alone_at(100);
  hub_.decline(*alone, Clock::now() + hours(1));
  EXPECT_TRUE(hub_.wants_restart());
  EXPECT_EQ(hub_.activate(), MasterLsn{100});
  EXPECT_EQ(read_by("alone"), ReadBy::kCommon);
  ASSERT_TRUE(offer(batch(fill(), 110)));
  EXPECT_FALSE(offer(batch("next", 120))) << "and the slow one is waited for";
  EXPECT_EQ(read_by("alone"), ReadBy::kCommon);
}

// A run of the common reader that ends leaves nothing held, and nobody in the middle.
TEST_F(OwnReaderHubTest, ARunThatEndsInsideATransaction) {
  const auto alone = alone_at(4900);
  EXPECT_EQ(hub_.come_back(*alone), OwnRead::kGoesOn);
  EXPECT_TRUE(offer(batch("begin", 0, true)));
  hub_.abandon_transaction();
  EXPECT_TRUE(quick_->queue().closed());
  EXPECT_FALSE(alone->queue().closed());
  const auto back = join("quick", 5000);
  EXPECT_EQ(put(alone, batch("up to 5000", 5000)), Pushed::kYes);
  EXPECT_EQ(hub_.come_back(*alone), OwnRead::kGoesOn);
  EXPECT_EQ(hub_.activate(), MasterLsn{5000});
  EXPECT_EQ(hub_.come_back(*alone), OwnRead::kOver);
  EXPECT_TRUE(offer(batch("begin again", 0, true)));
  EXPECT_EQ(drained(alone), (Strings{"up to 5000", "begin again"}));
}

using proto::StreamEvent;

TEST_F(OwnReaderHubTest, WhoMissedAStreamsBeginningReadsThatTransactionAlone) {
  quick_ = join("quick", 5000);
  hub_.activate();
  ASSERT_TRUE(offer(stream(7, StreamEvent::kPart)));
  const auto later = join("later", 5000);
  ASSERT_TRUE(offer(batch("other", 5100)));
  ASSERT_TRUE(offer(stream(7, StreamEvent::kPart)));
  ASSERT_TRUE(offer(stream(7, StreamEvent::kCommit, 5200)));
  EXPECT_EQ(drained(later), Strings{"other"});
  EXPECT_EQ(drained(quick_), (Strings{"s", "other", "s", "s"}));
  EXPECT_EQ(claim(), later);
  EXPECT_EQ(hub_.position(*later), MasterLsn{5100});
  EXPECT_EQ(hub_.come_back(*later), OwnRead::kGoesOn) << "not before it has that";
  EXPECT_EQ(put(later, batch("7", 5200)), Pushed::kYes);
  EXPECT_EQ(hub_.come_back(*later), OwnRead::kOver);
}

// Nobody reads alone any more: then the common read begins anew for its sake.
TEST_F(OwnReaderHubTest, WhoMissedAStreamsBeginningIsWaitedForWhenThereIsNoCopy) {
  const auto alone = alone_at(4000);
  const auto later = join("later", 5000);
  ASSERT_TRUE(offer(stream(7, StreamEvent::kPart)));
  const auto missing = join("missing", 5000);
  ASSERT_TRUE(offer(batch("other", 5100)));
  hub_.decline(*alone, Clock::now() + hours(1));
  ASSERT_TRUE(offer(stream(7, StreamEvent::kCommit, 5200)));
  EXPECT_EQ(drained(missing), Strings{"other"});
  EXPECT_EQ(drained(later), (Strings{"s", "other", "s"}));
  EXPECT_TRUE(hub_.wants_restart());
  EXPECT_EQ(hub_.activate(), MasterLsn{4000});
}

// A part describes for itself only: what follows still needs all that was described.
TEST_F(OwnReaderHubTest, GetsTheDescriptionsBesideAStreamsParts) {
  quick_ = join("quick", 5000);
  hub_.activate();
  ASSERT_TRUE(offer(describing(relation(1, "datos"), 5010)));
  const auto later = join("later", 5010);
  ASSERT_TRUE(offer(stream(7, StreamEvent::kPart)));
  ASSERT_TRUE(offer(batch("", 5020)));
  EXPECT_EQ((*later->queue().pop(Clock::now()))->bytes, "s");
  const auto described = proto::parse_batch((*later->queue().pop(Clock::now()))->bytes);
  ASSERT_EQ(described->parts_size(), 1);
  EXPECT_EQ(described->parts(0).relation().name(), "datos");
}

TEST_F(OwnReaderHubTest, WhoHoldsAPartOfAStreamIsDisconnectedRatherThanLeftWithIt) {
  const auto quick = join("quick", 5000);
  const auto slow = join("slow", 5000);
  hub_.activate();
  ASSERT_TRUE(offer(stream(7, StreamEvent::kPart)));
  ASSERT_TRUE(offer(batch(std::string(99, 'x'), 5100)));
  drained(quick);
  EXPECT_TRUE(offer(batch("next", 5200)));
  EXPECT_TRUE(slow->queue().closed());
}

TEST_F(OwnReaderHubTest, AStreamThatWasOpenWhenHoldingBeganIsNotHeld) {
  quick_ = join("quick", 5000);
  hub_.activate();
  ASSERT_TRUE(offer(stream(7, StreamEvent::kPart)));
  const auto alone = join("alone", 4900);
  ASSERT_FALSE(hub_.wants_restart());
  ASSERT_EQ(claim(), alone);
  EXPECT_EQ(hub_.come_back(*alone), OwnRead::kGoesOn);
  ASSERT_TRUE(offer(stream(7, StreamEvent::kPart)));
  ASSERT_TRUE(offer(stream(7, StreamEvent::kCommit, 5100)));
  EXPECT_EQ(put(alone, batch("up to 5000", 5000)), Pushed::kYes);
  EXPECT_EQ(hub_.come_back(*alone), OwnRead::kGoesOn);
  EXPECT_EQ(put(alone, batch("7", 5100)), Pushed::kYes);
  EXPECT_EQ(hub_.come_back(*alone), OwnRead::kOver);
  EXPECT_EQ(drained(alone), (Strings{"up to 5000", "7"}));
}

}  // namespace
}  // namespace bitacora::transport
