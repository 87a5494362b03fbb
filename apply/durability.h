// Which applied positions the standby would still have after a crash. Commits are asynchronous:
// each is noted with the standby's WAL position after it, and is durable once the standby has
// flushed that far. Pure. Source: the same idea as lsn_mapping in PostgreSQL's own apply worker.
#pragma once

#include <deque>

#include "base/lsn.h"

namespace bitacora::apply {

class Durability {
 public:
  explicit Durability(MasterLsn durable) : durable_(durable) {}

  // Everything up to `applied` was committed before the standby's WAL reached `inserted`.
  void on_commit(MasterLsn applied, StandbyLsn inserted);
  // The standby's WAL is on disk up to here. True when that made something durable.
  bool on_flush(StandbyLsn flushed);

  MasterLsn durable() const { return durable_; }
  bool pending() const { return !commits_.empty(); }

 private:
  struct Commit {
    MasterLsn applied;
    StandbyLsn inserted;
  };

  std::deque<Commit> commits_;
  MasterLsn durable_;
};

}  // namespace bitacora::apply
