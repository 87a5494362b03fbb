// A workload's changes, recorded once to be replayed often: in a receiver's spool, and in a slot
// for the built-in subscription.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "base/lsn.h"
#include "bench/pair.h"
#include "bench/race.h"
#include "bench/workload.h"

namespace bitacora::bench {

// What a recording is applied to.
struct Ground {
  std::string start;         // conninfo of the database with the starting content
  std::string subscription;  // in its bitacora.progress
  std::filesystem::path data_dir;
  Workload workload;  // its tables are compared afterwards
  std::string end;    // conninfo of a database with the final content; empty: there is none
};

// Makes the databases on both servers, and removes them.
class Recording {
 public:
  // Returns when all is in the spool, and nobody is connected to the standby's database.
  Recording(const Servers& servers, const Workload& workload);
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;
  ~Recording();

  const Ground& ground() const { return ground_; }

  // The same changes by the built-in subscription, from the moment when its worker streams until
  // all is visible; standby (the worker, or workers) and walsender in the CPU seconds.
  Turn replay_by_builtin() const;

 private:
  void begin();
  void record();
  void await_receiver(Receiver& receiver, const std::function<bool(const ReceiverState&)>& reached);
  MasterLsn mark();
  std::string builtin() const { return ground_.workload.name + "_builtin"; }

  Servers servers_;
  Ground ground_;
  std::unique_ptr<WorkingDirectory> directory_;
  std::unique_ptr<Sender> sender_;  // until everything is recorded
  int marks_ = 0;
};

}  // namespace bitacora::bench
