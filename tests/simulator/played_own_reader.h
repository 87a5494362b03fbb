// A receiver's own reader, a step at a time, beside the common one.
#pragma once

#include <memory>
#include <optional>

#include "tests/simulator/chance.h"
#include "tests/simulator/played_master.h"
#include "transport/subscription_hub.h"
#include "wal/batch_builder.h"

namespace bitacora::simulator {

class PlayedOwnReader {
 public:
  PlayedOwnReader(Chance& chance, const PlayedMaster& master, transport::SubscriptionHub& hub,
                  std::shared_ptr<transport::Subscription> subscription)
      : chance_(chance), master_(master), hub_(hub), subscription_(std::move(subscription)) {}

  // False: it is of no more use.
  bool step();

 private:
  // Of a copy of the slot.
  struct Reading {
    SlotReading slot;
    wal::BatchBuilder builder = wal::BatchBuilder();
    proto::SharedBatch offered = nullptr;  // not yet taken
    bool delivered_open_transaction = false;
  };

  void begin_reading();
  void take_in();
  void deliver();
  bool lose_master();

  Chance& chance_;
  const PlayedMaster& master_;
  transport::SubscriptionHub& hub_;
  std::shared_ptr<transport::Subscription> subscription_;
  std::optional<Reading> reading_;
};

}  // namespace bitacora::simulator
