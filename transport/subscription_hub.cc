#include "transport/subscription_hub.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace bitacora::transport {

SubscriptionHub::SubscriptionHub(HubOptions options, std::function<void()> on_change)
    : options_(options), on_change_(std::move(on_change)) {}

void SubscriptionHub::restore_receiver(const std::string& receiver, MasterLsn flushed) {
  const std::lock_guard lock(mutex_);
  known_.try_emplace(receiver, Known{{flushed, flushed, flushed}});
}

bool SubscriptionHub::is_registered(const std::string& receiver) const {
  const std::lock_guard lock(mutex_);
  return known_.contains(receiver);
}

void SubscriptionHub::on_attempt(const std::string& receiver) {
  const std::lock_guard lock(mutex_);
  const auto known = known_.find(receiver);
  if (known != known_.end()) known->second.absent_since = Clock::now();
}

void SubscriptionHub::forget(const std::string& receiver) {
  {
    const std::lock_guard lock(mutex_);
    const auto known = known_.find(receiver);
    if (known == known_.end() || known->second.subscription) return;
    known_.erase(known);
  }
  on_change_();
}

Result<std::shared_ptr<Subscription>> SubscriptionHub::join(const std::string& receiver,
                                                            const std::string& instance,
                                                            MasterLsn start_lsn) {
  auto subscription =
      std::make_shared<Subscription>(receiver, instance, start_lsn, options_.queue_bytes_max);
  {
    const std::lock_guard lock(mutex_);
    Known& known =
        known_.try_emplace(receiver, Known{{start_lsn, start_lsn, start_lsn}, nullptr, true})
            .first->second;
    if (known.subscription && known.subscription->instance() != instance) {
      return Error{ErrorCode::kConfiguration,
                   fmt::format("a receiver named {} is already connected", receiver),
                   "give this receiver another --name, or stop the other one"};
    }
    if (known.subscription) known.subscription->queue().close();
    known.subscription = subscription;
    known.positions.received = std::min(known.positions.received, start_lsn);
    known.positions.flushed = std::min(known.positions.flushed, start_lsn);
    known.positions.applied = std::min(known.positions.applied, start_lsn);
  }
  joined_.notify_all();
  on_change_();
  return subscription;
}

void SubscriptionHub::leave(const std::shared_ptr<Subscription>& subscription) {
  subscription->queue().close();
  {
    const std::lock_guard lock(mutex_);
    const auto known = known_.find(subscription->receiver());
    if (known != known_.end() && known->second.subscription == subscription)
      known->second.disconnect();
  }
  on_change_();
}

void SubscriptionHub::acknowledge(const Subscription& subscription,
                                  const ReceiverPositions& positions) {
  {
    const std::lock_guard lock(mutex_);
    const auto found = known_.find(subscription.receiver());
    if (found == known_.end() || found->second.subscription.get() != &subscription) return;
    Known& known = found->second;
    known.is_new = false;
    if (known.positions == positions) return;
    known.positions.received = std::max(known.positions.received, positions.received);
    known.positions.flushed = std::max(known.positions.flushed, positions.flushed);
    known.positions.applied = std::max(known.positions.applied, positions.applied);
  }
  on_change_();
}

bool SubscriptionHub::withdraw(const Subscription& subscription) {
  {
    const std::lock_guard lock(mutex_);
    const auto found = known_.find(subscription.receiver());
    if (found == known_.end() || found->second.subscription.get() != &subscription ||
        !found->second.is_new)
      return false;
    known_.erase(found);
  }
  on_change_();
  return true;
}

std::vector<std::shared_ptr<Subscription>> SubscriptionHub::connected(ReadBy by) const {
  std::vector<SharedSubscription> found;
  for (const auto& [name, known] : known_) {
    if (known.subscription && known.subscription->read_by_ == by)
      found.push_back(known.subscription);
  }
  return found;
}

bool SubscriptionHub::is_current(const Subscription& subscription) const {
  const auto known = known_.find(subscription.receiver());
  return known != known_.end() && known->second.subscription.get() == &subscription;
}

void SubscriptionHub::end_connection(const Subscription& subscription) {
  if (!is_current(subscription)) return;
  Known& known = known_.at(subscription.receiver());
  known.subscription->queue().close();
  known.disconnect();
}

void SubscriptionHub::disconnect(const Subscription& subscription) {
  const std::lock_guard lock(mutex_);
  end_connection(subscription);
}

void SubscriptionHub::disconnect_all() {
  const std::lock_guard lock(mutex_);
  for (auto& [name, known] : known_) {
    if (!known.subscription) continue;
    known.subscription->queue().close();
    known.disconnect();
  }
}

std::optional<ReceiverPositions> SubscriptionHub::slowest() const {
  const std::lock_guard lock(mutex_);
  std::optional<ReceiverPositions> slowest;
  for (const auto& [name, known] : known_) {
    const auto& own = known.positions;
    if (!slowest) slowest = own;
    slowest->received = std::min(slowest->received, own.received);
    slowest->flushed = std::min(slowest->flushed, own.flushed);
    slowest->applied = std::min(slowest->applied, own.applied);
  }
  return slowest;
}

std::vector<ReceiverState> SubscriptionHub::receivers() const {
  const std::lock_guard lock(mutex_);
  std::vector<ReceiverState> states;
  for (const auto& [name, known] : known_) {
    const auto& subscription = known.subscription;
    states.push_back({name, subscription != nullptr, known.positions,
                      subscription ? subscription->queue().bytes() : 0,
                      subscription ? subscription->read_by_ : ReadBy::kNobody, known.absent_since});
  }
  return states;
}

}  // namespace bitacora::transport
