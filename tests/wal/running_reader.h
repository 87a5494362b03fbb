// A live reader at work in a thread of its own.
#pragma once

#include <chrono>
#include <future>
#include <stop_token>
#include <utility>

#include "tests/wal/collecting_sink.h"
#include "wal/live_reader.h"
#include "wal/wake_up.h"

namespace bitacora::wal {

class RunningReader {
 public:
  RunningReader(LiveReaderOptions options, MasterLsn start)
      : reader_(std::move(options), sink_, wake_up_) {
    outcome_ = std::async(std::launch::async,
                          [this, start] { return reader_.run(start, stop_.get_token()); });
  }
  ~RunningReader() {
    if (outcome_.valid()) (void)stop();
  }

  CollectingSink& sink() { return sink_; }
  void wake() { wake_up_.signal(); }
  bool running() {
    return outcome_.wait_for(std::chrono::seconds(0)) == std::future_status::timeout;
  }

  Result<void> stop() {
    stop_.request_stop();
    wake_up_.signal();
    return outcome_.get();
  }

  // Of a run that ends by itself.
  Result<void> outcome() {
    if (outcome_.wait_for(std::chrono::seconds(20)) == std::future_status::ready)
      return outcome_.get();
    return Error{ErrorCode::kInternal, "the reader still runs"};
  }

  // After the run.
  bool mid_transaction() const { return reader_.mid_transaction(); }

 private:
  CollectingSink sink_;
  WakeUp wake_up_;
  std::stop_source stop_;
  LiveReader reader_;
  std::future<Result<void>> outcome_;
};

}  // namespace bitacora::wal
