// Says when what is to be applied waits for somebody else's lock on the standby: an open
// transaction there holds everything up, and nothing else would tell whose it is.
#pragma once

#include <optional>
#include <stop_token>
#include <string>
#include <thread>

#include "apply/standby_session.h"
#include "base/error.h"
#include "engine/options.h"
#include "engine/receiver_status.h"

namespace bitacora::engine {

// A thread of its own, and a connection while nothing moves. Both arguments outlive it.
class StandbyWatch {
 public:
  StandbyWatch(const ReceiverOptions& options, ReceiverStatus& status);

 private:
  void run(const std::stop_token& stop);
  Result<std::string> find();  // empty: no session of this receiver waits for anybody else
  void tell(const std::string& blocker);

  const ReceiverOptions& options_;
  ReceiverStatus& status_;
  std::optional<apply::StandbySession> session_;
  bool told_ = false;
  std::jthread thread_;
};

}  // namespace bitacora::engine
