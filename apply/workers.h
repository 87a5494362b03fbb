// Several groups in flight, each on a connection of its own, committed in the order in which they
// are begun.
//
// Every wait is for an earlier group, so there is no circle to deadlock in: a group that touches
// what an earlier one touches waits for that one's end before its first row, and every group waits
// for the one before it before it moves the progress row. Other locks of the standby are not shared
// (InFlight sees to it), and the waits happen in the server (turn.h), so that they cost no trips.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "apply/footprint.h"
#include "apply/group.h"
#include "apply/group_writer.h"
#include "base/error.h"

namespace bitacora::apply {

// What became of a group.
struct Finished {
  Group group;
  Result<void> written;
  std::optional<PathRefusal> refusal;
  WalPosition position;  // after its commit
};

// One thread owns it. While all_finished(), the writers are that thread's.
class Workers {
 public:
  // Each writer has been started with the turn of its place in the list, from 1 on. `on_end` is
  // called by the workers.
  Workers(const std::vector<std::unique_ptr<GroupWriter>>& writers, std::function<void()> on_end);
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;
  ~Workers();

  bool all_finished() const { return oldest_ == next_; }
  bool all_busy() const { return next_ - oldest_ == workers_.size(); }
  // Not while all are busy.
  void begin(Group group);

  // The oldest group that finished() has not given yet has ended.
  bool oldest_ended() const;
  // Waits for it. After a failed one nothing but give_up() makes sense.
  Finished finish_oldest();
  // Has the standby cancel what still runs, and returns when all have ended.
  void give_up();

 private:
  struct Worker {
    GroupWriter* writer = nullptr;
    std::optional<Group> group;
    GroupStart start;
    GroupEnd end;
    bool ended = false;
    Result<void> written;
    std::jthread thread;
  };

  Worker& worker_of(std::uint64_t number) { return *workers_[(number - 1) % workers_.size()]; }
  const Worker& worker_of(std::uint64_t number) const {
    return *workers_[(number - 1) % workers_.size()];
  }
  void run(const std::stop_token& stop, Worker& worker);
  Result<void> write(Worker& worker);

  const std::function<void()> on_end_;
  InFlight in_flight_;
  std::uint64_t oldest_ = 1;
  std::uint64_t next_ = 1;
  std::atomic<bool> giving_up_ = false;
  mutable std::mutex mutex_;
  std::condition_variable_any changed_;
  // Guarded by mutex_: each worker's `group` becoming present and its `ended`.
  std::vector<std::unique_ptr<Worker>> workers_;
};

}  // namespace bitacora::apply
