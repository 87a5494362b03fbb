// One connection between a receiver and the sender: each way in order, as gRPC has it, until it is
// cut. What of an older connection is still on its way arrives there, at its own end.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <utility>

#include "proto/replication.pb.h"
#include "tests/simulator/chance.h"

namespace bitacora::simulator {

template <class Message>
class Lane {
 public:
  void send(Message message) {
    if (!cut_) messages_.push_back(std::move(message));
  }

  std::optional<Message> receive() {
    if (messages_.empty()) return std::nullopt;
    Message message = std::move(messages_.front());
    messages_.pop_front();
    return message;
  }

  // Some of what is on its way still arrives.
  void cut(Chance& chance) {
    if (cut_) return;
    cut_ = true;
    messages_.resize(chance.below(messages_.size() + 1));
  }

  bool ended() const { return cut_ && messages_.empty(); }

 private:
  std::deque<Message> messages_;
  bool cut_ = false;
};

struct Link {
  Lane<pb::ReceiverMessage> to_sender;
  Lane<pb::SenderMessage> to_receiver;

  // By the network, or by one of the ends that is gone.
  void cut(Chance& chance) {
    to_sender.cut(chance);
    to_receiver.cut(chance);
  }
};

using SharedLink = std::shared_ptr<Link>;

}  // namespace bitacora::simulator
