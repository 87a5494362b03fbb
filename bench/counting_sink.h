// Where a reader's batches end when only reading is measured.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>

#include "wal/batch_sink.h"

namespace bitacora::bench {

// Counts up to a position, and confirms nothing: the slot can be read again. The reader's thread
// only, as long as it runs.
class CountingSink : public wal::BatchSink {
 public:
  // `meanwhile` is called with every batch; `at_end` once, while the reader is still connected.
  CountingSink(MasterLsn end, std::function<void()> meanwhile, std::function<void()> at_end);

  bool offer(const proto::SharedBatch& batch,
             std::chrono::steady_clock::time_point deadline) override;
  Result<void> on_connected(const wal::SystemIdentity&) override { return {}; }
  Result<void> on_started() override { return {}; }
  wal::StandbyStatus status() override { return {}; }
  bool wants_restart(bool /*streaming*/) override { return ended_; }
  void on_master_position(MasterLsn, std::int64_t) override {}

  bool ended() const { return ended_; }
  std::size_t batches() const { return batches_; }
  std::size_t bytes() const { return bytes_; }

 private:
  const MasterLsn end_;
  std::function<void()> meanwhile_;
  std::function<void()> at_end_;
  std::size_t batches_ = 0;
  std::size_t bytes_ = 0;
  bool ended_ = false;
};

}  // namespace bitacora::bench
