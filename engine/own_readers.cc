#include "engine/own_readers.h"

#include <chrono>
#include <utility>

namespace bitacora::engine {
namespace {

constexpr std::chrono::milliseconds kLookInterval{100};  // at `stop`, and at who has ended

}  // namespace

OwnReaders::OwnReaders(transport::SubscriptionHub& hub, wal::CatchUpOptions options,
                       MasterView master)
    : hub_(hub),
      options_(std::move(options)),
      master_(std::move(master)),
      thread_([this](const std::stop_token& stop) { run(stop); }) {}

void OwnReaders::run(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    auto subscription = hub_.claim(std::chrono::steady_clock::now() + kLookInterval);
    running_.remove_if([](const Running& running) { return running.ended.load(); });
    if (subscription) start(std::move(subscription));
  }
  for (auto& running : running_) running.thread.request_stop();
  running_.clear();
}

// One at a time for each receiver: an earlier connection's still has a copy of the slot.
void OwnReaders::start(std::shared_ptr<transport::Subscription> subscription) {
  running_.remove_if([&](const Running& running) {
    return running.subscription->receiver() == subscription->receiver();
  });
  auto& running = running_.emplace_back();
  running.subscription = std::move(subscription);
  running.thread = std::jthread([this, &running](const std::stop_token& stop) {
    OwnReader(hub_, running.subscription, options_, master_).run(stop);
    running.ended = true;
  });
}

}  // namespace bitacora::engine
