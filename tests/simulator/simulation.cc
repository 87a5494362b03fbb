#include "tests/simulator/simulation.h"

namespace bitacora::simulator {
namespace {

constexpr std::uint64_t kSettlingSteps = 20'000;

std::int64_t clock_usec(std::uint64_t step) { return static_cast<std::int64_t>(step) * 10'000; }

}  // namespace

Simulation::Simulation(std::uint64_t seed, bool traced) : chance_(seed, traced) {
  const auto receivers = chance_.between(1, 3);
  for (std::uint64_t i = 1; i <= receivers; ++i) {
    receivers_.push_back(
        std::make_unique<PlayedReceiver>(chance_, master_, sender_, fmt::format("r{}", i)));
  }
  calm_ = chance_.one_in(3) ? 15 : chance_.between(40, 200);
  steps_ = chance_.between(200, 800);
}

void Simulation::run() {
  sender_.start();
  for (const auto& receiver : receivers_) receiver->start();
  while (++chance_.step <= steps_) {
    act();
    if (chance_.one_in(calm_)) fail();
    check();
  }
  settle();
}

void Simulation::check() const {
  for (const auto& receiver : receivers_) receiver->check();
}

void Simulation::act() {
  switch (chance_.below(8)) {
    case 0:
      return act_master();
    case 1:
    case 2:
    case 3:
      return act_sender();
    default:
      return act(any_receiver());
  }
}

void Simulation::act_master() {
  switch (chance_.below(5)) {
    case 0:
      return master_.write_other_wal();
    case 1:
      return master_.save_slot();
    default:
      return master_.commit();
  }
}

void Simulation::act_sender() {
  if (!sender_.up()) {
    if (chance_.one_in(20)) sender_.start();
    return;
  }
  switch (chance_.below(14)) {
    case 0:
      return sender_.report();
    case 1:
      if (chance_.one_in(5)) sender_.note_receivers();
      return;
    case 2:
    case 3:
    case 4:
      return sender_.read();
    case 5:
    case 6:
      return sender_.read_alone();
    default:
      if (sender_.connections() != 0) sender_.serve(chance_.below(sender_.connections()));
  }
}

void Simulation::act(PlayedReceiver& receiver) {
  if (chance_.one_in(10)) receiver.standby().flush({chance_.below(100'000)});
  if (!receiver.standby_up() && chance_.one_in(20)) receiver.start_standby();
  if (!receiver.up()) {
    if (chance_.one_in(20)) receiver.start();
    return;
  }
  switch (chance_.below(12)) {
    case 0:
    case 1:
      return receiver.sync();
    case 2:
      return receiver.acknowledge();
    case 3:
      return receiver.tidy(clock_usec(chance_.step));
    case 4:
    case 5:
    case 6:
      return receiver.apply();
    default:
      return receiver.take_in();
  }
}

void Simulation::fail() {
  switch (chance_.below(12)) {
    case 0:
      return master_.crash();
    case 1:
      return sender_.up() ? sender_.crash() : sender_.start();
    case 2:
      return sender_.lose_master();
    case 3:
    case 4:
      if (sender_.connections() != 0) sender_.cut_one(chance_.below(sender_.connections()));
      return;
    default:
      return fail(any_receiver());
  }
}

void Simulation::fail(PlayedReceiver& receiver) {
  switch (chance_.below(8)) {
    case 0:
      return receiver.stop_standby(false);
    case 1:
      return receiver.stop_standby(true);
    case 2:
      if (receiver.standby().durable().progress) receiver.standby().take_backup();
      return;
    case 3:
      return receiver.restore_standby();
    case 4:
      if (chance_.one_in(5)) receiver.begin_anew();
      return;
    default:
      break;
  }
  if (!receiver.up()) return;
  switch (chance_.below(4)) {
    case 0:
      return receiver.fail_a_sync();
    case 1:
      return receiver.be_killed();
    default:
      return receiver.crash();
  }
}

// No faults from here on: everybody must come to the end.
void Simulation::settle() {
  chance_.note("no faults any more");
  master_.write_other_wal();
  for (const auto end = chance_.step + kSettlingSteps; chance_.step < end; ++chance_.step) {
    mend();
    act_sender();
    for (const auto& receiver : receivers_) act(*receiver);
    check();
    if (settled()) return;
  }
  for (const auto& receiver : receivers_) {
    const auto& state = receiver->standby().state();
    chance_.note("{}: {} transactions, at {}", receiver->name(), state.transactions,
                 state.progress.value_or(MasterLsn{}));
  }
  throw Violation(fmt::format("not everybody reaches transaction {} at {}; the slot is at {}",
                              master_.history().size(), master_.wal_end(), master_.confirmed()));
}

void Simulation::mend() {
  if (!sender_.up()) sender_.start();
  for (const auto& receiver : receivers_) {
    receiver->start_standby();
    if (!receiver->up()) receiver->start();
    receiver->standby().flush(receiver->standby().inserted());
  }
}

bool Simulation::settled() const {
  const auto transactions = master_.history().size();
  for (const auto& receiver : receivers_) {
    const auto& state = receiver->standby().state();
    if (!state.progress || state.transactions != transactions) return false;
  }
  return master_.transactions_before(master_.confirmed()) == transactions;
}

}  // namespace bitacora::simulator
