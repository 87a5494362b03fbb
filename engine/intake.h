// Takes what the sender ships into the spool and hands it on to apply, for as long as the receiver
// lives: whether the standby is there or not.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "engine/options.h"
#include "engine/receiver_status.h"
#include "engine/spool_keeper.h"
#include "transport/change_feed.h"
#include "transport/receiver_session.h"
#include "transport/sender_connection.h"
#include "transport/spool.h"

namespace bitacora::engine {

// Thread-safe. Its own thread dials, receives and appends; each connection has another one that
// acknowledges.
class Intake {
 public:
  Intake(const ReceiverOptions& options, std::string instance, transport::Spool& spool,
         transport::ChangeFeed& feed, SpoolKeeper& keeper, ReceiverStatus& status);
  ~Intake();
  Intake(const Intake&) = delete;
  Intake& operator=(const Intake&) = delete;

  bool started() const { return thread_.joinable(); }

  // Goes on where the spool ends, or at `resume` when that is valid: the spool begins anew there.
  // Also after a failure().
  void start(const pb::Identity& identity, MasterLsn resume);

  // A first start: nothing is known and nothing is kept before accept().
  void start_first();
  // What the sender says of itself. Waits for it; an error is the intake's own, or the time is over
  // (one that heals).
  Result<pb::Welcome> welcome(std::chrono::steady_clock::time_point deadline,
                              const std::stop_token& stop);
  void accept();
  // The sender forgets that we asked. The intake is not started any more.
  void refuse();

  // The standby is further back than the spool: dials again and begins the spool anew at `resume`.
  void begin_anew(MasterLsn resume);

  // Why it ended by itself: a refusal that does not heal.
  Result<void> failure() const;

 private:
  enum class Decision { kNone, kAccepted, kRefused };

  void launch();
  void run(const std::stop_token& stop);
  Result<void> run_connection(const std::stop_token& stop);
  transport::ReceiverSession session() const;
  Result<bool> agree(transport::SenderConnection& sender, const std::stop_token& stop);
  Result<void> take_in(transport::SenderConnection& sender, transport::ReceiverSession& session,
                       const std::stop_token& stop);
  Result<void> carry_out(std::vector<transport::ReceiverAction> actions,
                         const std::stop_token& stop);
  Result<transport::SpoolPlace> append(const transport::AppendFrame& append,
                                       const std::stop_token& stop);
  Result<void> splice(std::uint32_t xid, const std::stop_token& stop);
  Result<transport::SpoolPlace> when_room(
      const std::function<Result<transport::Appended>()>& append, const std::stop_token& stop);
  void acknowledge(transport::SenderConnection& sender, const std::stop_token& stop);
  void fail(const Error& error);

  const ReceiverOptions& options_;
  const std::string instance_;
  transport::Spool& spool_;
  transport::ChangeFeed& feed_;
  SpoolKeeper& keeper_;
  ReceiverStatus& status_;

  // The intake's thread only:
  bool connected_ = false;  // this connection came as far as frames

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  // Guarded by mutex_:
  std::optional<pb::Identity> identity_;
  MasterLsn resume_;  // 0: where the spool ends
  std::optional<pb::Welcome> welcome_;
  Decision decision_ = Decision::kAccepted;
  std::optional<Error> failure_;
  transport::SenderConnection* connection_ = nullptr;  // set by the thread that takes in

  std::jthread thread_;
};

}  // namespace bitacora::engine
