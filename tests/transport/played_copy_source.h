// A master's side of the copy calls that does as the test says.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "transport/copy_source.h"

namespace bitacora::transport {

// What the calls did to the source, waited for with a condition. Thread-safe.
class Noted {
 public:
  void note(const std::string& what);
  // False after 20 s.
  bool wait_for(const std::string& what, int times = 1);
  int times(const std::string& what);

 private:
  int count(const std::string& what) const;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> noted_;  // guarded by mutex_
};

// Set before the calls that use it. Parts are played by `read`, in which blocked_until_cancelled()
// may be used as a COPY that waits for a lock.
class PlayedCopySource final : public CopySource {
 public:
  class Parts;
  using Read = std::function<Result<pb::CopyPartEnd>(Parts&, const pb::CopyPart&, const CopySink&,
                                                     const OnWaiting&)>;

  // Notes "cancelled" and "closed".
  class Parts final : public CopyParts {
   public:
    Parts(Noted& noted, Read read) : noted_(noted), read_(std::move(read)) {}
    ~Parts() override { noted_.note("closed"); }

    Result<pb::CopyPartEnd> read(const pb::CopyPart& part, const CopySink& sink,
                                 const OnWaiting& waiting) override {
      return read_(*this, part, sink, waiting);
    }
    void cancel() override;
    // Notes "blocked" first.
    Error blocked_until_cancelled();

   private:
    Noted& noted_;
    Read read_;
    std::mutex mutex_;
    std::condition_variable changed_;
    bool cancelled_ = false;  // guarded by mutex_
  };

  Result<pb::CopyPlan> begin(const pb::BeginCopyRequest& request, const Peer& /*peer*/,
                             const OnWaiting& waiting, const std::stop_token& stop) override {
    return on_begin(request, waiting, stop);
  }
  Result<std::unique_ptr<CopyParts>> open(const pb::CopyOpening& opening,
                                          const Peer& peer) override;
  Result<void> end(const pb::EndCopyRequest& request, const Peer& /*peer*/) override {
    return on_end(request);
  }
  Result<pb::DumpedSchema> dump_schema(const pb::DumpSchemaRequest& request, const Peer& /*peer*/,
                                       const std::stop_token& stop) override {
    return on_dump_schema(request, stop);
  }
  Result<pb::SequenceValues> sequences(const pb::ReadSequencesRequest& /*request*/,
                                       const Peer& /*peer*/) override {
    return sequence_values;
  }

  // Notes "stopped" when it was.
  Error blocked_until_stopped(const std::stop_token& stop);

  Noted noted;
  std::function<Result<pb::CopyPlan>(const pb::BeginCopyRequest&, const OnWaiting&,
                                     const std::stop_token&)>
      on_begin;
  std::optional<Error> refuse_open;
  Read on_read;
  std::function<Result<void>(const pb::EndCopyRequest&)> on_end;
  std::function<Result<pb::DumpedSchema>(const pb::DumpSchemaRequest&, const std::stop_token&)>
      on_dump_schema;
  pb::SequenceValues sequence_values;
};

}  // namespace bitacora::transport
