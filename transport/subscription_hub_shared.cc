// What the common reader does with the hub.
#include <algorithm>
#include <utility>

#include "base/check.h"
#include "transport/subscription_hub.h"

namespace bitacora::transport {
namespace {

constexpr std::chrono::milliseconds kLookInterval{10};  // at the others, while one has no room

// For who has not got all that was described in this run. Parts of a transaction in progress
// describe what they need, and only for themselves.
proto::SharedBatch described_first(const proto::Descriptions& descriptions,
                                   const proto::SharedBatch& batch) {
  auto bytes = descriptions.encoded();
  if (bytes.empty()) return batch;
  auto whole = std::make_shared<proto::EncodedBatch>(*batch);
  whole->bytes.insert(0, bytes);
  return whole;
}

}  // namespace

std::optional<MasterLsn> SubscriptionHub::activate() {
  const std::lock_guard lock(mutex_);
  offered_ = nullptr;
  for (const auto& subscription : connected(ReadBy::kOwn)) subscription->held_.reset();
  for (const auto& subscription : connected(ReadBy::kCommon)) {
    if (!subscription->cursor_.between_transactions()) end_connection(*subscription);
  }
  auto waiting = connected(ReadBy::kCommon);
  for (auto& subscription : connected(ReadBy::kNobody)) waiting.push_back(std::move(subscription));
  if (waiting.empty()) return std::nullopt;
  std::vector<MasterLsn> positions;
  for (const auto& subscription : waiting) positions.push_back(subscription->cursor_.position());
  const auto start = common_start(positions, rules());
  common_.begin(start);
  for (const auto& subscription : waiting) {
    if (subscription->cursor_.position() < start) {
      let_read_alone(*subscription, "it is behind the others");
    } else {
      come_in(*subscription, {});
    }
  }
  return start;
}

void SubscriptionHub::come_in(Subscription& subscription,
                              const std::set<std::uint32_t>& open_streams) {
  subscription.cursor_.come_in(open_streams);
  subscription.read_by_ = ReadBy::kCommon;
  subscription.claimed_ = false;
  subscription.batches_taken_ = offered_ ? batches_ - 1 : batches_;
  subscription.lacks_descriptions_ = true;
  subscription.no_room_since_ = {};
}

bool SubscriptionHub::wants_restart() {
  const std::lock_guard lock(mutex_);
  settle_joiners();
  if (connected(ReadBy::kCommon).empty()) return true;
  const auto joiners = connected(ReadBy::kNobody);
  return std::any_of(joiners.begin(), joiners.end(), [&](const auto& joiner) {
    return entry(common_, joiner->cursor_.position(), rules()) == Entry::kRestart;
  });
}

// While others are read for; else the next run takes them.
void SubscriptionHub::settle_joiners() {
  if (connected(ReadBy::kCommon).empty()) return;
  for (const auto& joiner : connected(ReadBy::kNobody)) {
    const auto how = entry(common_, joiner->cursor_.position(), rules());
    if (how == Entry::kComeIn) come_in(*joiner, common_.open_streams());
    if (how == Entry::kReadAlone) let_read_alone(*joiner, "it is behind the others");
  }
}

std::vector<std::shared_ptr<Subscription>> SubscriptionHub::without_batch() const {
  const std::lock_guard lock(mutex_);
  auto waiting = connected(ReadBy::kCommon);
  std::erase_if(waiting, [&](const auto& each) { return each->batches_taken_ == batches_; });
  return waiting;
}

bool SubscriptionHub::offer(const proto::SharedBatch& batch, Clock::time_point deadline) {
  {
    const std::lock_guard lock(mutex_);
    begin_batch(batch);
    settle_joiners();
  }
  while (true) {
    for (const auto& subscription : without_batch())
      give(*subscription, batch, Clock::time_point::min());
    const auto waiting = finish_batch();
    if (!waiting) return true;
    const auto now = Clock::now();
    if (now >= deadline) return false;
    give(*waiting, batch, std::min(deadline, now + kLookInterval));
  }
}

void SubscriptionHub::begin_batch(const proto::SharedBatch& batch) {
  if (offered_ == batch) return;
  CHECK(!offered_);
  offered_ = batch;
  ++batches_;
  for (const auto& subscription : connected(ReadBy::kOwn)) {
    if (subscription->held_) hold(*subscription, batch);
  }
}

void SubscriptionHub::leave_out(Subscription& subscription, const proto::EncodedBatch& batch) {
  subscription.cursor_.leave_out(batch);
  if (batch.described) subscription.lacks_descriptions_ = true;
}

// It lacks the beginning of what this batch ends.
void SubscriptionHub::leave_to_another_reader(Subscription& subscription,
                                              const proto::EncodedBatch& batch) {
  if (rules().can_read_alone) {
    subscription.own_until_ = batch.end_lsn;
    let_read_alone(subscription, "it lacks the beginning of a transaction");
  } else if (subscription.cursor_.between_transactions()) {
    wait_for_common(subscription);  // which begins anew for its sake
  } else {
    end_connection(subscription);
  }
}

// False: it has no room.
bool SubscriptionHub::give(Subscription& subscription, const proto::SharedBatch& batch,
                           Clock::time_point deadline) {
  std::unique_lock lock(mutex_);
  auto& cursor = subscription.cursor_;
  CHECK(cursor.position() >= common_.position());
  const auto delivery = cursor.delivery(*batch);
  if (delivery == Delivery::kReadAlone) {
    leave_to_another_reader(subscription, *batch);
    return true;
  }
  if (delivery == Delivery::kLeaveOut) {
    leave_out(subscription, *batch);
    subscription.batches_taken_ = batches_;
    return true;
  }
  const bool describes = subscription.lacks_descriptions_ && proto::is_in_order(batch->event);
  auto copy = describes ? described_first(common_.descriptions(), batch) : batch;
  lock.unlock();
  const auto bytes = copy->bytes.size();
  const auto pushed = subscription.queue().push(copy, bytes, deadline);
  lock.lock();
  if (pushed == Pushed::kTimedOut) {
    if (subscription.no_room_since_ == Clock::time_point{})
      subscription.no_room_since_ = Clock::now();
    return false;
  }
  cursor.put(*batch);
  subscription.batches_taken_ = batches_;
  if (describes) subscription.lacks_descriptions_ = false;
  subscription.no_room_since_ = {};
  return true;
}

// Null when everybody has it, else one who has not.
std::shared_ptr<Subscription> SubscriptionHub::finish_batch() {
  const std::lock_guard lock(mutex_);
  detach_the_slow();
  for (auto& subscription : connected(ReadBy::kCommon)) {
    if (subscription->batches_taken_ != batches_) return subscription;
  }
  common_.advance(*offered_);
  offered_ = nullptr;
  settle_joiners();
  return nullptr;
}

void SubscriptionHub::detach_the_slow() {
  if (!rules().can_read_alone) return;
  const auto now = Clock::now();
  for (const auto& subscription : connected(ReadBy::kCommon)) {
    const auto since = subscription->no_room_since_;
    if (since == Clock::time_point{} || now - since < options_.patience) continue;
    if (others_wait_for(*subscription)) let_read_alone(*subscription, "it had no room for long");
  }
}

// A receiver that has room for more than what is offered.
bool SubscriptionHub::others_wait_for(const Subscription& slow) const {
  return std::any_of(known_.begin(), known_.end(), [&](const auto& entry) {
    const auto& other = entry.second.subscription;
    if (!other || other.get() == &slow) return false;
    if (other->read_by_ == ReadBy::kCommon) return other->batches_taken_ == batches_;
    return other->cursor_.position() >= common_.position() && has_room(*other);
  });
}

void SubscriptionHub::abandon_transaction() {
  const std::lock_guard lock(mutex_);
  offered_ = nullptr;
  common_.break_off();
  for (const auto& subscription : connected(ReadBy::kOwn)) subscription->held_.reset();
  for (const auto& subscription : connected(ReadBy::kCommon)) {
    if (!subscription->cursor_.between_transactions()) end_connection(*subscription);
  }
}

void SubscriptionHub::wait_for_receivers(Clock::time_point deadline) {
  std::unique_lock lock(mutex_);
  joined_.wait_until(lock, deadline, [&] {
    return !connected(ReadBy::kNobody).empty() || !connected(ReadBy::kCommon).empty();
  });
}

// What held batches are handed over with, too.
void SubscriptionHub::come_in_with_held(Subscription& subscription) {
  auto held = *std::exchange(subscription.held_, std::nullopt);
  auto& cursor = subscription.cursor_;
  CHECK(cursor.position() >= held.from);
  come_in(subscription, held.open_streams);
  for (const auto& batch : held.batches) {
    const auto delivery = cursor.delivery(*batch);
    CHECK(delivery != Delivery::kReadAlone);
    if (delivery == Delivery::kLeaveOut) {
      leave_out(subscription, *batch);
    } else {
      const bool describes = subscription.lacks_descriptions_ && proto::is_in_order(batch->event);
      const auto copy = describes ? described_first(held.descriptions, batch) : batch;
      if (describes) subscription.lacks_descriptions_ = false;
      subscription.queue().put_beyond(copy, copy->bytes.size());
      cursor.put(*batch);
    }
    if (batch->described) held.descriptions.take_in(*batch->described);
  }
  subscription.batches_taken_ = batches_;
}

}  // namespace bitacora::transport
