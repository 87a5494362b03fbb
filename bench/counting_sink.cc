#include "bench/counting_sink.h"

#include <utility>

namespace bitacora::bench {

CountingSink::CountingSink(MasterLsn end, std::function<void()> meanwhile,
                           std::function<void()> at_end)
    : end_(end), meanwhile_(std::move(meanwhile)), at_end_(std::move(at_end)) {}

bool CountingSink::offer(const proto::SharedBatch& batch, std::chrono::steady_clock::time_point) {
  ++batches_;
  bytes_ += batch->bytes.size();
  meanwhile_();
  if (!ended_ && batch->end_lsn >= end_) {
    ended_ = true;
    at_end_();
  }
  return true;
}

}  // namespace bitacora::bench
