// A standby without PostgreSQL: which transactions it has and its progress row, both of which a
// crash takes back together to what its WAL had on disk.
#pragma once

#include <cstddef>
#include <deque>
#include <optional>
#include <vector>

#include "base/lsn.h"
#include "tests/simulator/chance.h"

namespace bitacora::simulator {

struct StandbyState {
  std::size_t transactions = 0;       // the first so many of the master's history
  std::optional<MasterLsn> progress;  // the row; empty: never applied to
};

class PlayedStandby {
 public:
  explicit PlayedStandby(Chance& chance) : chance_(chance) {}

  const StandbyState& state() const { return state_; }
  const StandbyState& durable() const { return durable_; }

  // The tables are made equal to the master's at this position, and the row is written.
  void create(const StandbyState& state) { reset(state); }
  void drop_row() { reset({state_.transactions, std::nullopt}); }

  void commit(std::size_t transactions, MasterLsn progress);
  StandbyLsn inserted() const { return inserted_; }
  StandbyLsn flushed() const { return flushed_; }
  void flush(StandbyLsn until);

  void crash();
  void take_backup() { backups_.push_back(durable_); }
  bool restore();

 private:
  struct Commit {
    StandbyState state;
    StandbyLsn inserted;
  };

  void reset(const StandbyState& state);

  Chance& chance_;
  StandbyState state_;
  StandbyState durable_;
  std::deque<Commit> commits_;  // not flushed
  StandbyLsn inserted_{100};
  StandbyLsn flushed_{100};
  std::vector<StandbyState> backups_;
};

}  // namespace bitacora::simulator
