// Keeps the standby's sequences where the master's are: every --sequences-interval, and when asked.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>

#include "apply/sequence_values.h"
#include "apply/standby_session.h"
#include "base/error.h"
#include "base/name_pattern.h"
#include "engine/options.h"
#include "engine/receiver_status.h"
#include "proto/replication.pb.h"
#include "transport/copy_client.h"

namespace bitacora::engine {

// Its own connections to the sender and to the standby, and a thread unless the interval is zero.
class SequenceKeeper {
 public:
  SequenceKeeper(const ReceiverOptions& options, pb::Caller caller, ReceiverStatus& status);
  ~SequenceKeeper();
  SequenceKeeper(const SequenceKeeper&) = delete;
  SequenceKeeper& operator=(const SequenceKeeper&) = delete;

  // Afterwards no sequence of the standby is behind what the master's was when this was called.
  // Thread-safe. Errors: the sender's or the standby's.
  Result<apply::SequencesSet> sync();

 private:
  void run(const std::stop_token& stop);
  Result<apply::SequencesSet> sync_once();
  Result<void> connect();
  pb::SequenceValues taken(const pb::SequenceValues& all) const;
  Result<std::vector<std::string>> rename(pb::SequenceValues& taken);
  void warn_of(const pb::SequenceValues& values, const apply::SequencesSet& set);

  const ReceiverOptions& options_;
  const pb::Caller caller_;
  ReceiverStatus& status_;

  std::mutex mutex_;
  // Guarded by mutex_:
  std::unique_ptr<transport::CopyClient> sender_;
  std::optional<apply::StandbySession> standby_;
  std::string warned_;  // said once

  std::stop_source over_;
  std::jthread thread_;
};

}  // namespace bitacora::engine
