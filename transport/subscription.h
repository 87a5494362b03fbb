// One connected receiver, as its connection and the hub see it.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/bounded_queue.h"
#include "base/lsn.h"
#include "proto/batch.h"
#include "proto/descriptions.h"
#include "transport/shared_read.h"

namespace bitacora::transport {

enum class ReadBy {
  kNobody,  // it waits for the next run of the common reader
  kCommon,
  kOwn,  // it reads alone, at its own pace
};

// Thread-safe.
class Subscription {
 public:
  Subscription(std::string receiver, std::string instance, MasterLsn start_lsn,
               std::size_t queue_bytes_max)
      : receiver_(std::move(receiver)),
        instance_(std::move(instance)),
        start_lsn_(start_lsn),
        queue_(queue_bytes_max),
        cursor_(start_lsn) {}

  const std::string& receiver() const { return receiver_; }
  const std::string& instance() const { return instance_; }
  MasterLsn start_lsn() const { return start_lsn_; }
  BoundedQueue<proto::SharedBatch>& queue() { return queue_; }

 private:
  friend class SubscriptionHub;

  // What the common reader brought since this receiver came near it.
  struct Held {
    MasterLsn from;  // it has everything after this
    std::set<std::uint32_t> open_streams;
    proto::Descriptions descriptions;
    std::vector<proto::SharedBatch> batches = {};
    std::size_t bytes = 0;
  };

  const std::string receiver_;
  const std::string instance_;
  const MasterLsn start_lsn_;
  BoundedQueue<proto::SharedBatch> queue_;
  // Guarded by the hub's mutex. What is put in the queue comes from one thread at a time: the
  // common reader's, or that of its own one.
  ReceiverCursor cursor_;
  ReadBy read_by_ = ReadBy::kNobody;
  bool claimed_ = false;                                 // somebody reads for it alone
  MasterLsn own_until_;                                  // and does so at least up to here
  std::uint64_t batches_taken_ = 0;                      // of the hub's count
  bool lacks_descriptions_ = false;                      // of the common reader's run
  std::chrono::steady_clock::time_point no_room_since_;  // zero: there is room
  std::optional<Held> held_;                             // while it reads alone
};

}  // namespace bitacora::transport
