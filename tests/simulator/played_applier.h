// What the applier does with batches, against a played standby: whole transactions, each once.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>

#include "apply/durability.h"
#include "base/name_pattern.h"
#include "proto/replication.pb.h"
#include "tests/simulator/played_master.h"
#include "tests/simulator/played_standby.h"

namespace bitacora::simulator {

// One session with the standby.
class PlayedApplier {
 public:
  PlayedApplier(const PlayedMaster& master, PlayedStandby& standby, MasterLsn from,
                TablePatterns tables);

  // False: the session must end. What was being passed over goes on elsewhere, because the spool
  // has removed the rest of it.
  bool take(const pb::ChangeBatch& batch, bool more_waiting);
  void tick();

  MasterLsn applied() const { return applied_; }
  MasterLsn durable() const { return durability_.durable(); }

 private:
  void take(const pb::Part& part);
  void pass_over(std::size_t transactions);
  void begin(const pb::Begin& begin);
  void take_rows(const pb::Rows& block);
  void end(const pb::Commit& commit);
  void commit_group();

  const PlayedMaster& master_;
  const TablePatterns tables_;
  PlayedStandby& standby_;
  apply::Durability durability_;
  std::map<std::uint32_t, pb::Relation> relations_;
  MasterLsn applied_;
  MasterLsn position_;
  std::size_t transactions_;  // of the group too
  const PlayedTransaction* open_ = nullptr;
  std::uint32_t rows_ = 0;  // of the open transaction
  std::set<std::uint32_t> rolled_back_xids_;
  bool rolled_back_ = false;  // inside of one of these
  bool skipping_ = false;
  bool broken_off_ = false;
};

}  // namespace bitacora::simulator
