#include "transport/subscription_hub.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace bitacora::transport {

SubscriptionHub::SubscriptionHub(std::size_t queue_bytes_max, std::function<void()> on_change)
    : queue_bytes_max_(queue_bytes_max), on_change_(std::move(on_change)) {}

void SubscriptionHub::restore_receiver(const std::string& receiver, MasterLsn flushed) {
  const std::lock_guard lock(mutex_);
  known_.try_emplace(receiver, Known{{flushed, flushed, flushed}});
}

bool SubscriptionHub::is_registered(const std::string& receiver) const {
  const std::lock_guard lock(mutex_);
  return known_.contains(receiver);
}

Result<std::shared_ptr<Subscription>> SubscriptionHub::join(const std::string& receiver,
                                                            const std::string& instance,
                                                            MasterLsn start_lsn) {
  auto subscription =
      std::make_shared<Subscription>(receiver, instance, start_lsn, queue_bytes_max_);
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
      known->second.subscription.reset();
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

std::optional<MasterLsn> SubscriptionHub::activate() {
  const std::lock_guard lock(mutex_);
  offered_ = nullptr;  // the earlier run's last batch may be gone, and a new one lie at its address
  std::optional<MasterLsn> start;
  for (auto& [name, known] : known_) {
    if (!known.subscription) continue;
    known.subscription->active_ = true;
    known.subscription->batches_taken_ = batches_;
    start = std::min(start.value_or(known.subscription->position_), known.subscription->position_);
  }
  return start;
}

bool SubscriptionHub::wants_restart() const {
  const std::lock_guard lock(mutex_);
  bool anybody = false;
  for (const auto& [name, known] : known_) {
    if (!known.subscription) continue;
    if (!known.subscription->active_) return true;
    anybody = true;
  }
  return !anybody;
}

std::vector<std::shared_ptr<Subscription>> SubscriptionHub::without_batch(
    std::uint64_t batch) const {
  const std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<Subscription>> waiting;
  for (const auto& [name, known] : known_) {
    const auto& subscription = known.subscription;
    if (subscription && subscription->active_ && subscription->batches_taken_ < batch)
      waiting.push_back(subscription);
  }
  return waiting;
}

bool SubscriptionHub::offer(const proto::SharedBatch& batch, Clock::time_point deadline) {
  {
    const std::lock_guard lock(mutex_);
    if (offered_ != batch.get()) ++batches_;
    offered_ = batch.get();
  }
  for (const auto& subscription : without_batch(batches_)) {
    proto::SharedBatch copy = batch;
    if (subscription->queue().push(copy, batch->bytes.size(), deadline) == Pushed::kTimedOut)
      return false;
    const std::lock_guard lock(mutex_);
    subscription->batches_taken_ = batches_;
    subscription->position_ = std::max(subscription->position_, batch->end_lsn);
  }
  const std::lock_guard lock(mutex_);
  offered_ = nullptr;
  return true;
}

void SubscriptionHub::disconnect_all() {
  const std::lock_guard lock(mutex_);
  for (auto& [name, known] : known_) {
    if (!known.subscription) continue;
    known.subscription->queue().close();
    known.subscription.reset();
  }
}

void SubscriptionHub::wait_for_receivers(Clock::time_point deadline) {
  std::unique_lock lock(mutex_);
  joined_.wait_until(lock, deadline, [&] {
    return std::any_of(known_.begin(), known_.end(),
                       [](const auto& entry) { return entry.second.subscription != nullptr; });
  });
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
                      subscription ? subscription->queue().bytes() : 0});
  }
  return states;
}

}  // namespace bitacora::transport
