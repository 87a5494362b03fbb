#include "tests/simulator/played_own_reader.h"

#include <memory>

namespace bitacora::simulator {
namespace {

using Clock = transport::SubscriptionHub::Clock;

constexpr std::size_t kBatchBytesMax = 400;

}  // namespace

bool PlayedOwnReader::step() {
  const bool unfinished = reading_ && (reading_->offered || reading_->builder.in_transaction());
  if (!unfinished && hub_.come_back(*subscription_) != transport::OwnRead::kGoesOn) {
    chance_.note("sender: {} is read for alone no more, at {}", subscription_->receiver(),
                 hub_.position(*subscription_));
    return false;
  }
  if (subscription_->queue().closed()) return false;
  if (!reading_) {
    begin_reading();
  } else if (reading_->slot.life() != master_.life() || chance_.one_in(100)) {
    return lose_master();
  } else if (!reading_->offered) {
    take_in();
  } else {
    deliver();
  }
  return true;
}

void PlayedOwnReader::begin_reading() {
  const auto start = hub_.position(*subscription_);
  require(start >= master_.confirmed(), "{} reads alone from {}, the slot is at {}",
          subscription_->receiver(), start, master_.confirmed());
  reading_.emplace(Reading{SlotReading(master_, start)});
  chance_.note("sender: reading for {} from {}", subscription_->receiver(), start);
}

void PlayedOwnReader::take_in() {
  auto& builder = reading_->builder;
  for (auto messages = chance_.between(1, 12); messages > 0; --messages) {
    if (!reading_->slot.read_whole(builder)) break;
    if (builder.bytes() >= kBatchBytesMax) return deliver();
  }
  if (builder.in_transaction()) return;
  if (chance_.one_in(3)) reading_->slot.read_idle_position(builder, chance_);
  if (!builder.empty()) deliver();
}

void PlayedOwnReader::deliver() {
  auto& reading = *reading_;
  if (!reading.offered) {
    reading.offered = std::make_shared<proto::EncodedBatch>(reading.builder.take());
  }
  if (hub_.put(*subscription_, reading.offered, Clock::time_point::min()) == Pushed::kTimedOut)
    return;
  reading.delivered_open_transaction = reading.offered->transaction_open;
  reading.offered = nullptr;
}

bool PlayedOwnReader::lose_master() {
  const bool mid_transaction = reading_->delivered_open_transaction;
  reading_.reset();
  if (mid_transaction) {
    hub_.disconnect(*subscription_);
    return false;
  }
  if (chance_.one_in(10)) {
    chance_.note("sender: no copy of the slot any more");
    hub_.decline(*subscription_, Clock::time_point::max());
    return false;
  }
  return true;
}

}  // namespace bitacora::simulator
