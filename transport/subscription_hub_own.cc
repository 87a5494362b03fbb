// What the readers of single receivers do with the hub.
#include <algorithm>

#include "base/check.h"
#include "base/log.h"
#include "transport/subscription_hub.h"

namespace bitacora::transport {

CompanyRules SubscriptionHub::rules() const {
  return {options_.own_readers && Clock::now() >= declined_until_, options_.near_bytes};
}

// For what the common reader brings while it waits for others, and what was held.
bool SubscriptionHub::has_room(Subscription& subscription) const {
  return subscription.queue().bytes() <= options_.queue_bytes_max / 2;
}

void SubscriptionHub::let_read_alone(Subscription& subscription, std::string_view reason) {
  spdlog::info("event=receiver_detached receiver={} at={} reason=\"{}\"", subscription.receiver(),
               to_string(subscription.cursor_.position()), reason);
  // What it holds of an unfinished transaction cannot be gone on with: it comes again, whole.
  if (!subscription.cursor_.between_transactions()) return end_connection(subscription);
  subscription.read_by_ = ReadBy::kOwn;
  subscription.claimed_ = false;
  subscription.no_room_since_ = {};
  detached_.notify_all();
}

std::shared_ptr<Subscription> SubscriptionHub::claim(Clock::time_point deadline) {
  std::unique_lock lock(mutex_);
  SharedSubscription unclaimed;
  detached_.wait_until(lock, deadline, [&] {
    for (auto& subscription : connected(ReadBy::kOwn)) {
      if (!subscription->claimed_) unclaimed = std::move(subscription);
    }
    return unclaimed != nullptr;
  });
  if (unclaimed) unclaimed->claimed_ = true;
  return unclaimed;
}

MasterLsn SubscriptionHub::position(const Subscription& subscription) const {
  const std::lock_guard lock(mutex_);
  return subscription.cursor_.position();
}

Pushed SubscriptionHub::put(Subscription& subscription, const proto::SharedBatch& batch,
                            Clock::time_point deadline) {
  auto copy = batch;
  const auto pushed = subscription.queue().push(copy, batch->bytes.size(), deadline);
  if (pushed != Pushed::kYes) return pushed;
  const std::lock_guard lock(mutex_);
  CHECK(subscription.read_by_ == ReadBy::kOwn);
  subscription.cursor_.put(*batch);
  return pushed;
}

OwnRead SubscriptionHub::come_back(const Subscription& asking) {
  const std::lock_guard lock(mutex_);
  if (!is_current(asking)) return OwnRead::kGone;
  auto& subscription = *known_.at(asking.receiver()).subscription;
  CHECK(subscription.read_by_ == ReadBy::kOwn);
  if (!subscription.cursor_.between_transactions()) return OwnRead::kGoesOn;
  if (connected(ReadBy::kCommon).empty() && connected(ReadBy::kNobody).empty()) {
    wait_for_common(subscription);
  } else if (subscription.cursor_.position() >= subscription.own_until_ && has_room(subscription)) {
    find_way_back(subscription);
  }
  return subscription.read_by_ == ReadBy::kOwn ? OwnRead::kGoesOn : OwnRead::kOver;
}

void SubscriptionHub::wait_for_common(Subscription& subscription) {
  subscription.held_.reset();
  subscription.read_by_ = ReadBy::kNobody;
  subscription.claimed_ = false;
  joined_.notify_all();
}

void SubscriptionHub::find_way_back(Subscription& subscription) {
  const auto position = subscription.cursor_.position();
  if (subscription.held_) {
    if (position >= subscription.held_->from) come_in_with_held(subscription);
  } else {
    const auto way = way_back(common_, position, rules());
    if (way == WayBack::kNow) come_in(subscription, common_.open_streams());
    if (way == WayBack::kHold) begin_holding(subscription);
  }
  if (subscription.read_by_ == ReadBy::kOwn) return;
  spdlog::info("event=receiver_attached receiver={} at={}", subscription.receiver(),
               to_string(position));
}

void SubscriptionHub::begin_holding(Subscription& subscription) const {
  subscription.held_.emplace(
      Subscription::Held{common_.position(), common_.open_streams(), common_.descriptions()});
  if (offered_) hold(subscription, offered_);
}

// It is held again from later on when this was too much, or is of no use to it.
void SubscriptionHub::hold(Subscription& subscription, const proto::SharedBatch& batch) const {
  auto& held = *subscription.held_;
  held.batches.push_back(batch);
  held.bytes += batch->bytes.size();
  const bool lacks_beginning =
      batch->event == proto::StreamEvent::kCommit && held.open_streams.contains(batch->stream_xid);
  if (held.bytes > options_.queue_bytes_max / 2 || lacks_beginning) subscription.held_.reset();
}

void SubscriptionHub::decline(const Subscription& declined, Clock::time_point until) {
  {
    const std::lock_guard lock(mutex_);
    declined_until_ = until;
    if (!is_current(declined)) return;
    auto& subscription = *known_.at(declined.receiver()).subscription;
    if (!subscription.cursor_.between_transactions()) return end_connection(subscription);
    wait_for_common(subscription);
  }
  on_change_();
}

}  // namespace bitacora::transport
