// The receivers that are read for alone, each by a thread of its own.
#pragma once

#include <atomic>
#include <list>
#include <memory>
#include <stop_token>
#include <thread>

#include "engine/own_reader.h"
#include "transport/subscription_hub.h"
#include "wal/catch_up_reader.h"

namespace bitacora::engine {

// Takes whom the hub has detached, from the constructor on. The destructor ends all of them; hub
// and view outlive it.
class OwnReaders {
 public:
  OwnReaders(transport::SubscriptionHub& hub, wal::CatchUpOptions options, MasterView master);

 private:
  struct Running {
    std::shared_ptr<transport::Subscription> subscription;
    std::atomic<bool> ended = false;
    std::jthread thread = {};
  };

  void run(const std::stop_token& stop);
  void start(std::shared_ptr<transport::Subscription> subscription);

  transport::SubscriptionHub& hub_;
  const wal::CatchUpOptions options_;
  const MasterView master_;
  std::list<Running> running_;  // thread_'s only
  std::jthread thread_;
};

}  // namespace bitacora::engine
