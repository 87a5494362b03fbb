// A sender's stream for the spool's tests: numbered transactions whose content follows from their
// number, cut into batches and frames at random places, and a reader that knows what must come.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "base/lsn.h"
#include "transport/frame_codec.h"
#include "transport/spool.h"
#include "transport/spool_reader.h"

namespace bitacora::transport {

// Small: a few transactions make several frames, batches and segments.
inline constexpr FrameLimits kPlayedLimits{
    .raw_bytes_max = 400, .window_log_max = 10, .context_bytes = 500};

pb::Identity played_identity();
pb::Relation played_relation();

// Transaction n ends at n * 100.
inline MasterLsn end_of_transaction(std::uint64_t number) { return MasterLsn{number * 100}; }
inline std::uint64_t last_transaction(MasterLsn lsn) { return lsn.value / 100; }

struct PlayedFrame {
  pb::Frame frame;
  bool in_transaction_after = false;
};

// One connection's frames, without end.
class PlayedStream {
 public:
  PlayedStream(std::uint64_t first_transaction, std::uint64_t seed,
               FrameLimits limits = kPlayedLimits)
      : random_(seed), encoder_(1, limits), transaction_(first_transaction) {}

  const PlayedFrame& front();
  void pop() { frames_.pop_front(); }

 private:
  void make_batch();
  void add_part(pb::ChangeBatch& batch);

  std::mt19937_64 random_;
  FrameEncoder encoder_;
  std::uint64_t transaction_;  // the one being sent
  std::uint64_t part_ = 0;     // of it; 0: its Begin
  MasterLsn end_lsn_;          // of what the batch has completed
  std::deque<PlayedFrame> frames_;
};

// Appends up to `frames` of the stream; fewer when the spool is full. Answers how many.
Result<int> append_frames(Spool& spool, PlayedStream& stream, int frames);
// Appends until transaction `number` is in.
Result<void> append_until(Spool& spool, PlayedStream& stream, std::uint64_t number);

// Takes batches in, as an applier does that has everything up to `position`.
class TransactionCollector {
 public:
  explicit TransactionCollector(MasterLsn position) : applied_(position) {}

  // Says what is wrong, if anything is.
  std::optional<std::string> take(const pb::ChangeBatch& batch);
  void abandon() { open_.reset(); }

  MasterLsn applied() const { return applied_; }
  bool in_transaction() const { return open_.has_value(); }

 private:
  std::optional<std::string> take(const pb::Part& part);

  MasterLsn applied_;
  std::optional<pb::ChangeBatch> open_;  // the parts of the open transaction
};

// Reads to the tail into the collector. Answers what is wrong, if anything is.
std::optional<std::string> read_to_tail(SpoolReader& reader, TransactionCollector& collector);

// Everything after `position` up to the spool's end is there, each transaction once and in order.
std::optional<std::string> check_content(Spool& spool, MasterLsn position);

}  // namespace bitacora::transport
