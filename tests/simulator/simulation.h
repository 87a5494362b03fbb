// A master, a sender, some receivers with their standbys and the links between them, in one thread:
// what happens next, faults included, follows from the seed.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "tests/simulator/chance.h"
#include "tests/simulator/played_master.h"
#include "tests/simulator/played_receiver.h"
#include "tests/simulator/played_sender.h"

namespace bitacora::simulator {

class Simulation {
 public:
  Simulation(std::uint64_t seed, bool traced);

  // Throws a Violation when a rule is broken:
  // - each standby has a prefix of the master's history, each transaction once and in order;
  // - I1: the slot is not confirmed beyond what every registered receiver has on disk;
  // - I2: each spool keeps everything from its standby's durable position on;
  // - once there are no faults any more, everybody reaches the master's end.
  void run();

 private:
  PlayedReceiver& any_receiver() { return *receivers_[chance_.below(receivers_.size())]; }
  void act();
  void act_master();
  void act_sender();
  void act(PlayedReceiver& receiver);
  void fail();
  void fail(PlayedReceiver& receiver);
  void check() const;
  void settle();
  void mend();
  bool settled() const;

  Chance chance_;
  PlayedMaster master_{chance_};
  PlayedSender sender_{chance_, master_};
  std::vector<std::unique_ptr<PlayedReceiver>> receivers_;
  std::uint64_t calm_ = 0;   // steps between two faults, about
  std::uint64_t steps_ = 0;  // with faults
};

}  // namespace bitacora::simulator
