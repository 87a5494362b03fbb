#include "tests/simulator/played_standby.h"

#include <algorithm>
#include <utility>

namespace bitacora::simulator {

void PlayedStandby::reset(const StandbyState& state) {
  state_ = durable_ = state;
  commits_.clear();
  inserted_.value += 10;
  flushed_ = inserted_;
}

void PlayedStandby::commit(std::size_t transactions, MasterLsn progress) {
  inserted_.value += 10;
  state_ = {transactions, progress};
  commits_.push_back({state_, inserted_});
}

void PlayedStandby::flush(StandbyLsn until) {
  flushed_ = std::max(flushed_, std::min(until, inserted_));
  while (!commits_.empty() && commits_.front().inserted <= flushed_) {
    durable_ = commits_.front().state;
    commits_.pop_front();
  }
}

void PlayedStandby::crash() { reset(durable_); }

bool PlayedStandby::restore() {
  if (backups_.empty()) return false;
  reset(backups_[chance_.below(backups_.size())]);
  return true;
}

}  // namespace bitacora::simulator
