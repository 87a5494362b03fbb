// From conninfo to a slot that is ours: every check before anything is made, and nothing half-made
// after a failure.
#pragma once

#include <stop_token>

#include "base/error.h"
#include "base/lsn.h"
#include "engine/options.h"
#include "engine/sender_state.h"
#include "proto/replication.pb.h"
#include "wal/master_session.h"
#include "wal/timeline_history.h"

namespace bitacora::engine {

struct Master {
  pb::Identity identity;
  wal::TimelineHistory history;
  int server_version = 0;
};

// Checks the master, makes publication and slot on the first start and notes that in the state
// file. A server that is starting up is waited for, and so is a predecessor's connection that is
// going away. The master may be a standby: what that cannot make has to be there, made on its
// primary. Errors: kMaster, kState (the slot that was there is gone, lost or another's; the
// state directory belongs to another master), kConfiguration.
Result<Master> set_up_master(wal::MasterSession& session, const SenderOptions& options,
                             SenderStateFile& state, std::stop_token stop);

// Where the slot is confirmed. kState when it is gone (it was made at `slot_from`) or has lost WAL.
Result<MasterLsn> confirmed_position(wal::MasterSession& session, const std::string& slot,
                                     MasterLsn slot_from);

}  // namespace bitacora::engine
