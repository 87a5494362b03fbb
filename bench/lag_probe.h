// How old the newest state is that a standby shows: marks are committed on the master all the time,
// and looked for on the standby. They commit synchronously, whatever the load does: a walsender
// sends what is flushed, and the WAL writer's delay is nobody's lag.
#pragma once

#include <chrono>
#include <deque>
#include <pqxx/pqxx>
#include <string>
#include <utility>
#include <vector>

namespace bitacora::bench {

// Of databases with the table of marks that Databases makes; nobody else makes any meanwhile.
class LagProbe {
 public:
  LagProbe(const std::string& master, const std::string& standby);

  // Makes a mark when it is time to, and looks which have arrived; to be called all the time.
  void look();
  // Makes the last mark, and waits until all have arrived. Throws when they do not in time.
  void finish(std::chrono::milliseconds timeout);

  // Seconds from each mark's commit to its being visible.
  const std::vector<double>& seconds() const { return seconds_; }

 private:
  using Clock = std::chrono::steady_clock;

  void mark();
  void look_for_arrived();

  pqxx::connection master_;
  pqxx::connection standby_;
  int marks_ = 0;
  std::deque<std::pair<int, Clock::time_point>> under_way_;  // mark, when it was committed
  Clock::time_point marked_at_;
  Clock::time_point looked_at_;
  std::vector<double> seconds_;
};

}  // namespace bitacora::bench
