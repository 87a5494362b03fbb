// The sender process: one slot, one reader for all receivers that keep pace, any number of those.
#pragma once

#include <atomic>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>

#include "base/error.h"
#include "engine/copy_server.h"
#include "engine/master_setup.h"
#include "engine/options.h"
#include "engine/own_reader.h"
#include "engine/reader_choice.h"
#include "engine/receiver_registry.h"
#include "engine/reload_requests.h"
#include "engine/sender_state.h"
#include "engine/status_server.h"
#include "transport/replication_service.h"
#include "transport/slot_hold.h"
#include "transport/subscription_hub.h"
#include "wal/batch_sink.h"
#include "wal/catch_up_reader.h"
#include "wal/live_reader.h"
#include "wal/master_session.h"
#include "wal/replication_slot.h"
#include "wal/wake_up.h"

namespace bitacora::engine {

// run() owns the common reader's thread (the caller's); connections, receivers' own readers, the
// monitor and status requests have theirs.
class Sender : private wal::BatchSink {
 public:
  explicit Sender(SenderOptions options);

  // Until `stop`, or an error that does not heal. `reloads`: see run_reloads().
  Result<void> run(std::stop_token stop, ReloadRequests& reloads);

 private:
  // wal::BatchSink, called by the reader:
  bool offer(const proto::SharedBatch& batch,
             std::chrono::steady_clock::time_point deadline) override;
  Result<void> on_connected(const wal::SystemIdentity& system) override;
  Result<void> on_started() override;
  wal::StandbyStatus status() override;
  bool wants_restart(bool streaming) override;
  void on_master_position(MasterLsn wal_end, std::int64_t master_clock_usec) override;

  wal::CatchUpOptions catch_up_options(wal::TableTraffic* traffic) const;
  MasterView master_view();
  Result<Master> find_master(wal::MasterSession& lock_session, SenderStateFile& state,
                             const std::stop_token& stop);
  Result<void> read_until_stop(wal::MasterSession& lock_session, std::stop_token stop);
  Result<void> look_while_idle(wal::MasterSession& lock_session);
  Result<void> read_once(wal::MasterSession& lock_session, MasterLsn start_lsn,
                         const std::stop_token& stop);
  Result<void> catch_up(const std::stop_token& stop);
  Result<void> read_live(const std::stop_token& stop);
  bool has_to_ask_for_text();
  Backlog backlog() const;
  Backlog live_backlog() const;

  void on_own_reader_declined(const Error& reason);
  // From the reload's thread: the place where whoever runs with options takes the new ones.
  void take_options(const SenderOptions& fresh, bool publication_changed);
  void narrow_grants(const SenderOptions& running, const SenderOptions& fresh);
  bool take_grants(const ReceiverGrants& fresh);  // false: they are the same

  // Where the slot stands; kState when it is not the one we made. The first takes query_mutex_, for
  // the second the caller holds it.
  Result<MasterLsn> look_at_slot();
  Result<MasterLsn> slot_position();

  // From connections' threads:
  Result<void> check_caller(const std::string& stream, const pb::Identity* identity) const;
  Result<Grant> grant_for(const std::string& receiver, const transport::Peer& peer) const;
  Result<transport::Admission> admit(const pb::Hello& hello, const transport::Peer& peer);
  Result<CopyServer::Served> serve(const pb::Caller& caller, const transport::Peer& peer) const;
  transport::SlotHold::Joined let_in(const pb::Hello& hello);
  pb::Heartbeat heartbeat() const;

  // The monitor's thread: what status pages show, and the receivers' positions into the state file.
  void monitor(const std::stop_token& stop);
  bool observe_slot();  // false: the master did not answer
  void warn_of_losing(const wal::ReplicationSlot& slot);
  std::string status_document() const;
  Result<std::string> control(const ControlRequest& request);

  const SenderOptions options_;
  wal::WakeUp wake_up_;
  transport::SubscriptionHub hub_;
  transport::SlotHold hold_{hub_};
  Master master_;  // its history is guarded by query_mutex_
  wal::TableTraffic traffic_;
  // The reader's thread only:
  wal::LiveReader live_reader_;
  wal::CatchUpReader catch_up_reader_;
  ReaderChoice choice_;
  MasterLsn reading_from_;
  bool asked_for_binary_ = true;
  bool started_ = false;                           // this run came as far as on_started()
  std::atomic<bool> publication_changed_ = false;  // the reader has to ask for its changes anew
  std::optional<ReceiverRegistry> registry_;       // once ready_
  std::atomic<bool> ready_ = false;  // master_ and registry_ may be read by other threads

  std::atomic<std::uint64_t> options_taken_{0};  // so often: who is being let in comes again
  mutable std::mutex grants_mutex_;
  ReceiverGrants grants_;  // guarded by grants_mutex_

  std::mutex query_mutex_;
  // Guarded by query_mutex_:
  wal::MasterSession query_session_;  // admissions, the monitor and receivers' own readers
  std::string own_declined_reason_;   // said once

  std::optional<CopyServer> copies_;  // while run() runs

  std::atomic<bool> catching_up_ = false;
  std::atomic<std::uint64_t> wal_lsn_{0};
  std::atomic<std::uint64_t> read_lsn_{0};
  std::atomic<std::uint64_t> confirmed_lsn_{0};
  std::atomic<std::uint64_t> restart_lsn_{0};
  std::atomic<std::uint64_t> unread_wal_{0};  // by the walsender
  std::atomic<std::uint64_t> retained_bytes_{0};
  bool endangered_ = false;  // guarded by query_mutex_
  std::atomic<std::int64_t> master_clock_usec_{0};
};

}  // namespace bitacora::engine
