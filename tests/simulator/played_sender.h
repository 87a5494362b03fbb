// The sender's process around the code under test: the hub, the hold on the slot, and a session and
// an encoder for each connection. What its threads do is done here step by step.
#pragma once

#include <cstdint>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "proto/batch_filter.h"
#include "tests/simulator/link.h"
#include "tests/simulator/played_master.h"
#include "tests/simulator/played_own_reader.h"
#include "transport/message_encoder.h"
#include "transport/sender_session.h"
#include "transport/slot_hold.h"
#include "transport/subscription_hub.h"

namespace bitacora::simulator {

// Small: a few transactions make several frames, batches and segments.
inline constexpr transport::FrameLimits kPlayedLimits{
    .raw_bytes_max = 150, .window_log_max = 10, .context_bytes = 400};

class PlayedSender {
 public:
  PlayedSender(Chance& chance, PlayedMaster& master);

  bool up() const { return hub_ != nullptr; }
  void start();
  void crash();  // only the state file is left

  // Null while it is down.
  SharedLink dial();

  // One step of each of its threads.
  void read();
  void read_alone();  // for one that does not take part
  void lose_master();
  void report();
  void note_receivers();
  void serve(std::uint64_t which);
  std::uint64_t connections() const { return connections_.size(); }
  void cut_one(std::uint64_t which);

  bool registered(const std::string& receiver) const { return state_.contains(receiver); }

 private:
  struct Connection {
    SharedLink link;
    transport::SenderSession session;
    transport::MessageEncoder encoder{1, kPlayedLimits};
    std::shared_ptr<transport::Subscription> joined = nullptr;  // not welcomed yet
    std::shared_ptr<transport::Subscription> subscription = nullptr;
    std::optional<proto::BatchFilter> filter = {};
    std::deque<pb::SenderMessage> encoded = {};  // of the batch that is being sent
  };

  struct Reader {
    SlotReading reading;
    ReadChanges changes = {};
    proto::SharedBatch offered = nullptr;  // not yet taken by all
    bool delivered_open_transaction = false;
  };

  proto::EncodedBatch next_batch();
  void begin_reading();
  void take_in();
  void deliver();
  void end_reading();

  bool alive(Connection& connection);
  bool take_message(Connection& connection, const pb::ReceiverMessage& message);
  bool greet(Connection& connection, const pb::ReceiverMessage& first);
  transport::SlotHold::Joined admit(const pb::Hello& hello);
  bool welcome(Connection& connection);
  void send(Connection& connection);
  proto::SharedBatch next_to_send(Connection& connection);
  void send_heartbeat(Connection& connection);
  void end(Connection& connection);

  Chance& chance_;
  PlayedMaster& master_;
  std::map<std::string, MasterLsn> state_;  // the file

  std::unique_ptr<transport::SubscriptionHub> hub_;  // null: the process is down
  std::unique_ptr<transport::SlotHold> hold_;
  bool reads_alone_ = false;                // this life has own readers
  std::list<PlayedOwnReader> own_readers_;  // after the hub
  std::optional<Reader> reader_;
  std::list<Connection> connections_;
};

}  // namespace bitacora::simulator
