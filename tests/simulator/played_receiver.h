// The receiver's process around the code under test: spool, feed, status and a session per
// connection. What its threads do is done here step by step. Its disk and its standby outlive it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/receiver_status.h"
#include "tests/simulator/played_applier.h"
#include "tests/simulator/played_sender.h"
#include "tests/simulator/played_standby.h"
#include "tests/transport/crashable_storage.h"
#include "transport/change_feed.h"
#include "transport/receiver_session.h"
#include "transport/spool.h"

namespace bitacora::simulator {

class PlayedReceiver {
 public:
  PlayedReceiver(Chance& chance, const PlayedMaster& master, PlayedSender& sender,
                 std::string name);

  const std::string& name() const { return name_; }
  bool up() const { return process_ != nullptr; }
  void start();
  void be_killed();  // the machine goes on: what was written is there
  void crash();      // the machine's too: what was not synced may be gone
  void lose_connection();

  // One step of each of its threads.
  void take_in();
  void acknowledge();
  void sync();
  void tidy(std::int64_t now_usec);
  void apply();

  void begin_anew();  // a person: empty data directory, no row
  void fail_a_sync() { disk_->failing_syncs = 1; }

  PlayedStandby& standby() { return standby_; }
  bool standby_up() const { return standby_up_; }
  void stop_standby(bool crash);
  void start_standby() { standby_up_ = true; }
  void restore_standby();

  // What must hold after every step.
  void check() const;

 private:
  struct Connection {
    SharedLink link;
    transport::ReceiverSession session;
    transport::MessageDecoder decoder{kPlayedLimits};
    bool welcomed = false;
    std::optional<pb::Welcome> agreeing = {};         // a first start waits for the standby
    std::vector<transport::ReceiverAction> due = {};  // the first of them waits for room
    std::optional<pb::Frame> spliced = {};            // waits for room
    transport::ReceiverProgress acknowledged = {};
  };

  struct Process {
    explicit Process(const std::string& name) : status(name) {}

    std::unique_ptr<transport::Spool> spool;
    std::unique_ptr<transport::ChangeFeed> feed;  // after the spool: it reads from it
    engine::ReceiverStatus status;
    bool intake_started = false;
    std::optional<pb::Identity> identity;
    MasterLsn resume;
    std::optional<Connection> connection;
    std::optional<MasterLsn> synced;  // not yet told
    std::optional<PlayedApplier> applier;
  };

  struct Checkpoint {
    MasterLsn applied;
    std::optional<transport::SyncedMark> spool;
  };

  void open();
  void dial();
  void take_in(pb::SenderMessage message);
  void on_welcome(const pb::SenderMessage& message);
  void decide();
  void begin_connection(const pb::Welcome& welcome);
  void carry_out();
  bool carry_out(transport::ReceiverAction& action);
  bool append(const transport::AppendFrame& append);
  bool append_streamed(const transport::StreamedFrame& streamed);
  bool splice_one(std::uint32_t xid);
  bool note(const Result<transport::Appended>& appended);
  void end_connection(const Error& error);

  void begin_session();
  bool covers() const;
  void take_from_feed();
  void end_session();
  void check_holds() const;

  Chance& chance_;
  const PlayedMaster& master_;
  PlayedSender& sender_;
  const std::string name_;
  const std::vector<std::string> tables_;  // that it takes

  std::shared_ptr<transport::CrashableDisk> disk_;
  std::optional<Checkpoint> checkpoint_;
  transport::SpoolOptions spool_options_;
  PlayedStandby standby_;
  bool standby_up_ = true;
  // The standby is older than what the spool on disk was promised.
  bool restored_ = false;

  transport::SpoolPlace place_;  // behind the last frame
  std::unique_ptr<Process> process_;
};

}  // namespace bitacora::simulator
