// The wait for a statement's answer that may take long, because others hold a lock or have a
// transaction open.
#pragma once

#include <chrono>
#include <functional>
#include <stop_token>
#include <string>

#include "base/error.h"
#include "wal/master_connection.h"

namespace bitacora::wal {

// One thread owns it and the connection, on which the statement was sent before.
class AnswerWait {
 public:
  // `doing` says what failed, for the message. `each_second` is called while nothing comes.
  AnswerWait(PGconn* connection, std::string doing, std::function<void()> each_second,
             std::stop_token stop = {});

  // Until PQgetResult() would not block. At `stop` the master is asked to give up, and has a moment
  // for it: the answer is then its error, or kMaster when none comes.
  Result<void> answer();
  // Takes in what has arrived; waits a moment for it when nothing has.
  Result<void> input();

 private:
  using Clock = std::chrono::steady_clock;

  PGconn* connection_;
  const std::string doing_;
  const std::function<void()> each_second_;
  const std::stop_token stop_;
  Clock::time_point next_second_;
  Clock::time_point deadline_ = Clock::time_point::max();
};

}  // namespace bitacora::wal
